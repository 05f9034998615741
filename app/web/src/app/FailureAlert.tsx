import { Alert } from 'antd'
import type { ReactNode } from 'react'
import type { Failure } from '../api/failure'
import { useI18n } from '../i18n/I18n'
import styles from './FailureAlert.module.css'

/** What happened in the reader's language, then the server's own words. */
export function FailureAlert({ failure, action }: { failure: Failure; action?: ReactNode }) {
  const { t } = useI18n()
  const details = [
    failure.message,
    failure.status && t('failure.status', { status: failure.status }),
    failure.retryAfter && t('failure.retryAfter', { seconds: failure.retryAfter }),
  ].filter(Boolean)
  return (
    <Alert
      className={styles.alert}
      type="error"
      showIcon
      title={
        <>
          <strong>{t(`failure.${failure.kind}`)}</strong>
          {details.map((detail) => (
            <div key={String(detail)}>{detail}</div>
          ))}
        </>
      }
      action={action}
    />
  )
}
