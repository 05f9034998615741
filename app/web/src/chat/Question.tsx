import { EditOutlined } from '@ant-design/icons'
import { Button, Input } from 'antd'
import { memo, useState } from 'react'
import { AttachmentList } from '../attachments/AttachmentList'
import { useI18n } from '../i18n/I18n'
import { CopyButton } from '../ui/CopyButton'
import { IconButton } from '../ui/IconButton'
import { Branches } from './Branches'
import type { Message } from './message'
import styles from './Question.module.css'

interface Props {
  message: Message
  siblings: Message[]
  onTurnTo: (id: string) => void
  editing: boolean
  /** With the id to begin editing, with null to end it. */
  onEditing: (id: string | null) => void
  /** Absent while an answer is being written, or where no model is there to answer. */
  onEdit: ((id: string, text: string) => void) | undefined
}

export const Question = memo(function Question(props: Props) {
  const { message, siblings, editing, onEditing, onTurnTo, onEdit } = props
  const { t } = useI18n()
  if (editing && onEdit) {
    return (
      <Editor
        text={message.content}
        onCancel={() => onEditing(null)}
        onSend={(text) => {
          onEditing(null)
          onEdit(message.id, text)
        }}
      />
    )
  }
  return (
    <div className={styles.question}>
      <div className={styles.bubble}>
        <AttachmentList attachments={message.attachments} />
        {message.content && <div className={styles.text} data-message>{message.content}</div>}
      </div>
      <div className={styles.footer}>
        <Branches message={message} siblings={siblings} onTurnTo={onTurnTo} />
        <CopyButton text={message.content} label={t('chat.copyQuestion')} />
        {onEdit && <IconButton size="small" label={t('chat.edit')} icon={<EditOutlined />} onClick={() => onEditing(message.id)} />}
      </div>
    </div>
  )
})

function Editor({ text, onCancel, onSend }: { text: string; onCancel: () => void; onSend: (text: string) => void }) {
  const { t } = useI18n()
  const [draft, setDraft] = useState(text)
  const send = () => draft.trim() && onSend(draft.trim())
  return (
    <div className={styles.editor}>
      <Input.TextArea
        aria-label={t('chat.editLabel')}
        autoFocus
        autoSize={{ minRows: 2, maxRows: 12 }}
        value={draft}
        onChange={(event) => setDraft(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === 'Escape') {
            event.stopPropagation()
            onCancel()
          } else if (event.key === 'Enter' && !event.shiftKey && !event.nativeEvent.isComposing) {
            event.preventDefault()
            send()
          }
        }}
      />
      <div className={styles.buttons}>
        <Button onClick={onCancel}>{t('ui.cancel')}</Button>
        <Button type="primary" disabled={!draft.trim()} onClick={send}>
          {t('chat.sendEdit')}
        </Button>
      </div>
    </div>
  )
}
