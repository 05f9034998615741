import { useEffect, useState, useSyncExternalStore } from 'react'
import { openRepository } from '../history/repository'
import type { Settings } from '../settings/settings'
import { ChatStore, type View } from './ChatStore'

const ADDRESS = '#/c/'
export const addressOf = (chat: string): string => ADDRESS + chat
const chatInAddress = (): string | null => (location.hash.startsWith(ADDRESS) ? location.hash.slice(ADDRESS.length) : null)

/** The store of all conversations; the address names the one that is shown. */
export function useChats(history: boolean, settings: Settings): { store: ChatStore; view: View } {
  const [store] = useState(() => new ChatStore(openRepository(history), settings))
  const view = useSyncExternalStore(store.subscribe, store.getView)

  useEffect(() => {
    void store.load(chatInAddress())
    const follow = () => void store.open(chatInAddress())
    // Another tab may have changed the list; and a tab that is hidden may never be seen again.
    const seen = () => (document.visibilityState === 'visible' ? void store.load(null) : store.save())
    const leave = () => store.save()
    addEventListener('hashchange', follow)
    addEventListener('pagehide', leave)
    document.addEventListener('visibilitychange', seen)
    return () => {
      removeEventListener('hashchange', follow)
      removeEventListener('pagehide', leave)
      document.removeEventListener('visibilitychange', seen)
    }
  }, [store])

  const shown = view.chat?.id
  useEffect(() => {
    if (shown !== undefined && chatInAddress() !== shown) goTo(addressOf(shown))
    if (shown === undefined && view.lasting !== null && chatInAddress() !== null) goTo('#/')
  }, [shown, view.lasting])
  return { store, view }
}

const goTo = (address: string): void => window.history.pushState(null, '', address)
