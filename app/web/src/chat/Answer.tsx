import { Actions, Think } from '@ant-design/x'
import { Button, Tag } from 'antd'
import { lazy, Suspense } from 'react'
import { FailureAlert } from '../app/FailureAlert'
import { useI18n } from '../i18n/I18n'
import styles from './Answer.module.css'
import type { MessageEntry } from './message'

const loadMarkdown = () => import('./Markdown')
const Markdown = lazy(loadMarkdown)
export const preloadMarkdown = (): void => void loadMarkdown()

interface Props {
  entry: MessageEntry
  onRetry?: () => void
}

export function Answer({ entry: { message, status }, onRetry }: Props) {
  const { t } = useI18n()
  const growing = status === 'loading' || status === 'updating'
  return (
    <article className={styles.answer} aria-busy={growing} data-status={status}>
      {message.reasoning && (
        <Think title={t('chat.reasoning')} loading={growing && !message.content} blink={growing && !message.content}>
          <div className={styles.plain}>{message.reasoning}</div>
        </Think>
      )}
      <Suspense fallback={<div className={styles.plain}>{message.content}</div>}>
        <Markdown text={message.content} growing={growing} />
      </Suspense>
      {status === 'abort' && <Tag>{t('chat.stopped')}</Tag>}
      {message.finishReason === 'length' && <Tag>{t('chat.lengthLimit')}</Tag>}
      {message.failure && (
        <FailureAlert
          failure={message.failure}
          action={
            onRetry && (
              <Button size="small" onClick={onRetry}>
                {t('chat.retry')}
              </Button>
            )
          }
        />
      )}
      {!growing && message.content && (
        <Actions items={[{ key: 'copy', actionRender: <Actions.Copy text={message.content} /> }]} />
      )}
    </article>
  )
}
