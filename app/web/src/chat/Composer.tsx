import { ArrowUpOutlined, PaperClipOutlined } from '@ant-design/icons'
import { Sender } from '@ant-design/x'
import { Button, Tooltip } from 'antd'
import { type Ref, useImperativeHandle, useRef, useState } from 'react'
import type { Attachment, Limits } from '../attachments/attachment'
import { AttachmentList } from '../attachments/AttachmentList'
import { useAttachments } from '../attachments/useAttachments'
import { useI18n } from '../i18n/I18n'
import { PickFiles } from '../ui/PickFiles'
import styles from './Composer.module.css'

export interface ComposerHandle {
  focus: () => void
  addFiles: (files: Iterable<File>) => void
}

interface Props {
  ref: Ref<ComposerHandle>
  limits: Limits
  busy: boolean
  /** Whether there is a model to ask. */
  ready: boolean
  /** Tokens of the conversation and how many the model reads, where both are known. */
  context: { used: number; length: number } | null
  onSend: (text: string, attachments: Attachment[]) => void
  onStop: () => void
  /** Arrow up in an empty box. */
  onRecall: () => void
}

export function Composer({ ref, limits, busy, ready, context, onSend, onStop, onRecall }: Props) {
  const { t } = useI18n()
  const [draft, setDraft] = useState('')
  const { files, refused, add, remove, clear } = useAttachments(limits)
  const frame = useRef<HTMLDivElement>(null)
  useImperativeHandle(ref, () => ({
    focus: () => frame.current?.querySelector('textarea')?.focus(),
    addFiles: (picked) => void add(picked),
  }))

  const empty = !draft.trim() && files.length === 0
  const send = () => {
    if (empty || busy || !ready) return
    onSend(draft.trim(), files)
    setDraft('')
    clear()
  }

  return (
    <div className={styles.composer} ref={frame}>
      {refused.map(({ file, reason }) => (
        <div key={file} className={styles.refused} role="alert">
          {t(`attachment.${reason}`, { name: file, limit: Math.floor(limits.bytes / 1024) })}
        </div>
      ))}
      <Sender
        value={draft}
        onChange={setDraft}
        onPasteFile={(pasted) => void add(pasted)}
        // X's own Enter works with X's own button alone. 229: Safari within an input method.
        onKeyDown={(event) => {
          if (event.key === 'ArrowUp' && draft === '') onRecall()
          if (event.key !== 'Enter' || event.shiftKey || event.nativeEvent.isComposing || event.keyCode === 229) return
          event.preventDefault()
          send()
        }}
        loading={busy}
        disabled={!ready}
        placeholder={t('chat.placeholder')}
        autoSize={{ minRows: 1, maxRows: 8 }}
        header={files.length > 0 && <div className={styles.files}><AttachmentList attachments={files} onRemove={remove} /></div>}
        prefix={
          <PickFiles
            label={t('attachment.add')}
            icon={<PaperClipOutlined />}
            multiple
            disabled={!ready}
            onPick={(picked) => void add(picked)}
          />
        }
        suffix={
          busy ? (
            <Tooltip title={t('chat.stop')}>
              <Button shape="circle" aria-label={t('chat.stop')} icon={<i className={styles.square} />} onClick={onStop} />
            </Tooltip>
          ) : (
            <Tooltip title={t('chat.send')}>
              <Button
                type="primary"
                shape="circle"
                aria-label={t('chat.send')}
                icon={<ArrowUpOutlined />}
                disabled={empty || !ready}
                onClick={send}
              />
            </Tooltip>
          )
        }
      />
      <p className={styles.hint}>
        <span>{t('chat.hint')}</span>
        {context && <span>{t('chat.context', context)}</span>}
      </p>
    </div>
  )
}
