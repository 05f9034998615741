import type { ComponentProps } from '@ant-design/x-markdown'
import { lazy, Suspense } from 'react'
import { useI18n } from '../i18n/I18n'
import { CopyButton } from '../ui/CopyButton'
import styles from './Code.module.css'

const Highlighted = lazy(() => import('./Highlighted'))

/** Inline code as it is; a block with its language, a button to copy it, and colours. */
export function Code({ block, lang, children }: ComponentProps) {
  const { t } = useI18n()
  if (!block) return <code>{children}</code>
  const text = String(children ?? '').replace(/\n$/, '')
  const language = lang?.split(/\s/)[0] ?? ''
  return (
    <figure className={styles.block}>
      <figcaption className={styles.head}>
        <span>{language || t('code.plain')}</span>
        <CopyButton text={text} label={t('code.copy')} />
      </figcaption>
      <pre tabIndex={0}>
        <Suspense fallback={<code>{text}</code>}>
          <Highlighted text={text} language={language} />
        </Suspense>
      </pre>
    </figure>
  )
}
