import { CloseOutlined, FileTextOutlined } from '@ant-design/icons'
import { useI18n } from '../i18n/I18n'
import { IconButton } from '../ui/IconButton'
import type { Attachment } from './attachment'
import styles from './AttachmentList.module.css'

/** The files of a question; with `onRemove`, those that are about to be sent. */
export function AttachmentList({ attachments, onRemove }: { attachments: Attachment[]; onRemove?: (at: number) => void }) {
  const { t } = useI18n()
  if (attachments.length === 0) return null
  return (
    <ul className={styles.list} aria-label={t('attachment.label')}>
      {attachments.map((file, at) => (
        <li key={`${at} ${file.name}`} className={styles.file}>
          {file.kind === 'image' ? <img src={file.data} alt={file.name} /> : <FileTextOutlined aria-hidden />}
          <span className={styles.name}>{file.name}</span>
          {onRemove && (
            <IconButton
              size="small"
              label={t('attachment.remove', { name: file.name })}
              icon={<CloseOutlined />}
              onClick={() => onRemove(at)}
            />
          )}
        </li>
      ))}
    </ul>
  )
}
