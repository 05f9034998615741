import { CloseOutlined } from '@ant-design/icons'
import { ConfigProvider } from 'antd'
import { type ReactNode, useEffect, useRef } from 'react'
import { useI18n } from '../i18n/I18n'
import styles from './Dialog.module.css'
import { IconButton } from './IconButton'

interface Props {
  label: string
  /** Where it comes from; `middle` stands in the centre. */
  side: 'start' | 'end' | 'middle'
  onClose: () => void
  /** Whether its label is shown as a title, with a button to close it. */
  titled?: boolean
  children: ReactNode
}

/** The browser's own modal dialog: it holds the focus, ends with Escape, and gives the focus back. */
export function Dialog({ label, side, onClose, titled = true, children }: Props) {
  const { t } = useI18n()
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    const before = document.activeElement
    dialog.current?.showModal()
    return () => {
      if (before instanceof HTMLElement) before.focus()
    }
  }, [])
  return (
    <dialog
      ref={dialog}
      className={`${styles.dialog} ${styles[side]}`}
      aria-label={label}
      onClose={onClose}
      onClick={(event) => event.target === dialog.current && onClose()} // beside it
    >
      <ConfigProvider getPopupContainer={() => dialog.current ?? document.body}>
        <div className={styles.content}>
          {titled && (
            <header className={styles.header}>
              <h2>{label}</h2>
              <IconButton label={t('ui.close')} icon={<CloseOutlined />} onClick={onClose} />
            </header>
          )}
          {children}
        </div>
      </ConfigProvider>
    </dialog>
  )
}
