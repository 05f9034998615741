import { CloseCircleFilled } from '@ant-design/icons'
import { Alert, Button } from 'antd'
import { type ReactNode, useEffect, useRef, useState } from 'react'
import type { Mishap } from '../api/failure'
import { useI18n } from '../i18n/I18n'
import styles from './FailureAlert.module.css'

interface Props {
  failure: Mishap
  onRetry?: (() => void) | undefined
  /** Whether to try again without being asked when the time that the server named is over. */
  retriesItself?: boolean
  /** Further buttons. */
  children?: ReactNode
}

/** What happened in the reader's language, the server's own words, what to do about it, and a button to try again. */
export function FailureAlert({ failure, onRetry, retriesItself = false, children }: Props) {
  const { t } = useI18n()
  const left = useCountdown(retriesItself ? failure.retryAfter : undefined, onRetry)
  const details = [failure.message, failure.status && t('failure.status', { status: failure.status })].filter(Boolean)
  return (
    <Alert
      className={styles.alert}
      type="error"
      showIcon
      icon={<CloseCircleFilled aria-hidden />}
      title={
        <>
          <strong>{t(`failure.${failure.kind}`)}</strong>
          <div>{t(`advice.${failure.kind}`)}</div>
          {details.length > 0 && <div className={styles.details}>{details.join(' · ')}</div>}
          {failure.retryAfter !== undefined && <div>{t('failure.retryAfter', { seconds: failure.retryAfter })}</div>}
          <div className={styles.actions}>
            {onRetry && (
              <Button size="small" onClick={onRetry}>
                {left === null ? t('failure.retry') : t('failure.retryIn', { seconds: left })}
              </Button>
            )}
            {children}
          </div>
        </>
      }
    />
  )
}

/** Seconds left of so many, then a call; null where nothing is counted. */
function useCountdown(seconds: number | undefined, onEnd: (() => void) | undefined): number | null {
  const [left, setLeft] = useState(seconds ?? null)
  const end = useRef(onEnd)
  end.current = onEnd
  useEffect(() => {
    if (seconds === undefined || end.current === undefined) return
    const due = Date.now() + seconds * 1000
    const timer = setInterval(() => {
      const rest = Math.ceil((due - Date.now()) / 1000)
      setLeft(Math.max(0, rest))
      if (rest > 0) return
      clearInterval(timer)
      end.current?.()
    }, 250)
    return () => clearInterval(timer)
  }, [seconds])
  return seconds === undefined || onEnd === undefined ? null : left
}
