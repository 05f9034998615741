import { ForwardOutlined, ReloadOutlined } from '@ant-design/icons'
import { Button, Tag } from 'antd'
import { lazy, memo, Suspense } from 'react'
import { FailureAlert } from '../app/FailureAlert'
import { useI18n } from '../i18n/I18n'
import { CopyButton } from '../ui/CopyButton'
import { IconButton } from '../ui/IconButton'
import styles from './Answer.module.css'
import { Branches } from './Branches'
import { type Message, speedOf } from './message'
import { ToolCalls } from './ToolCalls'

const loadMarkdown = () => import('../markdown/Markdown')
const Markdown = lazy(loadMarkdown)
export const preloadMarkdown = (): void => void loadMarkdown()

interface Props {
  message: Message
  siblings: Message[]
  retriesItself: boolean
  onTurnTo: (id: string) => void
  /** Absent while an answer is being written, or where no model is there to answer. */
  onRegenerate: ((id: string) => void) | undefined
  onGoOn: ((id: string) => void) | undefined
}

export const Answer = memo(function Answer(props: Props) {
  const { message, siblings, retriesItself, onTurnTo, onRegenerate, onGoOn } = props
  const { t } = useI18n()
  const growing = message.status === 'growing'
  const thinking = growing && !message.content
  const unfinished = message.content !== '' && (message.status !== 'done' || message.finishReason === 'length')
  const goOn = onGoOn && unfinished && !growing && (
    <Button size="small" icon={<ForwardOutlined aria-hidden />} onClick={() => onGoOn(message.id)}>
      {t('chat.goOn')}
    </Button>
  )
  if (growing && !message.content && !message.reasoning && message.toolCalls.length === 0) return <Waiting />
  return (
    <article className={styles.answer} aria-label={t('chat.answer')} aria-busy={growing} data-status={message.status}>
      {message.reasoning && (
        <details className={styles.reasoning} open={thinking}>
          <summary>{t(thinking ? 'chat.thinking' : 'chat.reasoning')}</summary>
          <div className={styles.plain}>{message.reasoning}</div>
        </details>
      )}
      {message.content && (
        <div className={styles.content} data-message>
          <Suspense fallback={<div className={styles.plain}>{message.content}</div>}>
            <Markdown text={message.content} growing={growing} />
          </Suspense>
        </div>
      )}
      <ToolCalls calls={message.toolCalls} growing={growing} />
      {message.status === 'stopped' && <Note text={t('chat.stopped')}>{goOn}</Note>}
      {message.finishReason === 'length' && <Note text={t('chat.lengthLimit')}>{goOn}</Note>}
      {message.failure && (
        <FailureAlert
          failure={message.failure}
          onRetry={onRegenerate && (() => onRegenerate(message.id))}
          retriesItself={retriesItself}
        >
          {goOn}
        </FailureAlert>
      )}
      {!growing && (
        <footer className={styles.footer}>
          <Branches message={message} siblings={siblings} onTurnTo={onTurnTo} />
          {message.content && <CopyButton text={message.content} label={t('chat.copy')} />}
          {onRegenerate && (
            <IconButton
              size="small"
              label={t('chat.regenerate')}
              icon={<ReloadOutlined />}
              onClick={() => onRegenerate(message.id)}
            />
          )}
          <Facts message={message} />
        </footer>
      )}
    </article>
  )
})

function Note({ text, children }: { text: string; children: React.ReactNode }) {
  return (
    <div className={styles.note}>
      <Tag>{text}</Tag>
      {children}
    </div>
  )
}

/** Who answered, how much and how fast. */
function Facts({ message }: { message: Message }) {
  const { t } = useI18n()
  const { model, usage, timing } = message
  const speed = speedOf(message)
  const facts = [
    model,
    usage && t('facts.tokens', { count: usage.completion }),
    speed !== null && t('facts.speed', { speed: speed < 10 ? speed.toFixed(1) : Math.round(speed) }),
    timing?.first != null && t('facts.first', { ms: Math.round(timing.first) }),
  ].filter(Boolean)
  return <small className={styles.facts}>{facts.join(' · ')}</small>
}

function Waiting() {
  const { t } = useI18n()
  return (
    <article className={styles.answer} aria-label={t('chat.answer')} aria-busy="true" data-status="growing">
      <span className={styles.waiting} role="status" aria-label={t('chat.waiting')}>
        <i />
        <i />
        <i />
      </span>
    </article>
  )
}
