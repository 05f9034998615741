import { useEffect, useRef } from 'react'
import { type Shortcut, shortcutOf } from './shortcuts'

/** Calls what a shortcut stands for, wherever the focus is; `escape` only where nothing nearer takes it. */
export function useShortcuts(actions: Record<Shortcut | 'escape', () => void>): void {
  const latest = useRef(actions)
  latest.current = actions
  useEffect(() => {
    const act = (event: KeyboardEvent) => {
      const shortcut = shortcutOf(event)
      if (shortcut) {
        event.preventDefault()
        latest.current[shortcut]()
      } else if (event.key === 'Escape' && !event.defaultPrevented && !document.querySelector('dialog[open]')) {
        latest.current.escape()
      }
    }
    addEventListener('keydown', act)
    return () => removeEventListener('keydown', act)
  }, [])
}
