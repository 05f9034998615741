import { LeftOutlined, RightOutlined } from '@ant-design/icons'
import { useI18n } from '../i18n/I18n'
import { IconButton } from '../ui/IconButton'
import styles from './Branches.module.css'
import type { Message } from './message'

interface Props {
  message: Message
  siblings: Message[]
  onTurnTo: (id: string) => void
}

/** Which of the versions of a message is shown, and the way to the others; nothing where there is one. */
export function Branches({ message, siblings, onTurnTo }: Props) {
  const { t } = useI18n()
  if (siblings.length < 2) return null
  const at = siblings.findIndex(({ id }) => id === message.id)
  const turn = (step: number) => {
    const other = siblings[at + step]
    if (other) onTurnTo(other.id)
  }
  return (
    <span className={styles.branches} role="group" aria-label={t('branch.label')}>
      <IconButton size="small" label={t('branch.before')} icon={<LeftOutlined />} disabled={at === 0} onClick={() => turn(-1)} />
      <span>{t('branch.place', { at: at + 1, all: siblings.length })}</span>
      <IconButton
        size="small"
        label={t('branch.after')}
        icon={<RightOutlined />}
        disabled={at === siblings.length - 1}
        onClick={() => turn(1)}
      />
    </span>
  )
}
