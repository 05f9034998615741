import { ToolOutlined } from '@ant-design/icons'
import { useI18n } from '../i18n/I18n'
import type { ToolCall } from './message'
import styles from './ToolCalls.module.css'

/** The functions that the model wants called; the page shows them, a program would call them. */
export function ToolCalls({ calls, growing }: { calls: ToolCall[]; growing: boolean }) {
  const { t } = useI18n()
  return calls.map((call, position) => (
    <details key={call.id || position} className={styles.call} open>
      <summary>
        <ToolOutlined aria-hidden /> {t('tool.call', { name: call.name })}
      </summary>
      <pre tabIndex={0}>{growing ? call.arguments : pretty(call.arguments)}</pre>
    </details>
  ))
}

function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2)
  } catch {
    return json
  }
}
