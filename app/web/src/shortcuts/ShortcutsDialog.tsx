import { useI18n } from '../i18n/I18n'
import { Dialog } from '../ui/Dialog'
import styles from './ShortcutsDialog.module.css'
import { SHORTCUTS, type Shortcut, written } from './shortcuts'

export default function ShortcutsDialog({ onClose }: { onClose: () => void }) {
  const { t } = useI18n()
  const rows: [string[], string][] = [
    ...(Object.keys(SHORTCUTS) as Shortcut[]).map((name): [string[], string] => [written(name), t(`shortcut.${name}`)]),
    [['Enter'], t('shortcut.send')],
    [['Shift', 'Enter'], t('shortcut.line')],
    [['↑'], t('shortcut.recall')],
    [['Esc'], t('shortcut.escape')],
  ]
  return (
    <Dialog label={t('shortcut.title')} side="middle" onClose={onClose}>
      <dl className={styles.list}>
        {rows.map(([keys, meaning]) => (
          <div key={meaning}>
            <dt>
              {keys.map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{meaning}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  )
}
