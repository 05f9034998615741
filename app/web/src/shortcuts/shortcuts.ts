export const SHORTCUTS = {
  search: { key: 'k', shift: false },
  new: { key: 'o', shift: true },
  sidebar: { key: 'b', shift: false },
  settings: { key: ',', shift: false },
  help: { key: '/', shift: false },
} as const
export type Shortcut = keyof typeof SHORTCUTS

export const isMac = (): boolean => /mac|iphone|ipad/i.test(navigator.platform)

/** How a shortcut is written on this machine's keys. */
export function written(shortcut: Shortcut): string[] {
  const { key, shift } = SHORTCUTS[shortcut]
  return [isMac() ? '⌘' : 'Ctrl', ...(shift ? [isMac() ? '⇧' : 'Shift'] : []), key.toUpperCase()]
}

export function shortcutOf(event: Pick<KeyboardEvent, 'key' | 'ctrlKey' | 'metaKey' | 'shiftKey' | 'altKey'>): Shortcut | null {
  if (event.altKey || event.ctrlKey === event.metaKey) return null
  const found = Object.entries(SHORTCUTS).find(([, { key, shift }]) => event.key.toLowerCase() === key && event.shiftKey === shift)
  return (found?.[0] as Shortcut | undefined) ?? null
}
