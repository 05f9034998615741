import { useXChat } from '@ant-design/x-sdk'
import { useCallback, useMemo } from 'react'
import type { Api } from '../api/client'
import { ChatProvider } from './ChatProvider'
import { emptyAnswer, type MessageEntry, turnsOf } from './message'

export interface Chat {
  messages: MessageEntry[]
  busy: boolean
  ask: (text: string) => void
  /** Asks the question of this answer again, in its place. */
  retry: (id: MessageEntry['id']) => void
  stop: () => void
  clear: () => void
}

export function useChat(api: Api, model: string | null): Chat {
  const provider = useMemo(() => new ChatProvider(api), [api])
  const { messages, isRequesting, onRequest, onReload, abort, setMessages } = useXChat({
    provider,
    requestPlaceholder: emptyAnswer,
  })

  const ask = useCallback(
    (text: string) => {
      if (model === null) return
      const before = turnsOf(messages.map((entry) => entry.message))
      onRequest({ model, messages: [...before, { role: 'user', content: text }] })
    },
    [messages, model, onRequest],
  )

  const retry = (id: MessageEntry['id']) => {
    const index = messages.findIndex((entry) => entry.id === id)
    const asked = messages[index - 1]?.message
    if (model === null || !asked) return
    const before = turnsOf(messages.slice(0, index - 1).map((entry) => entry.message))
    onReload(id, { model, messages: [...before, { role: 'user', content: asked.content }] })
  }

  const clear = () => {
    abort()
    setMessages([])
  }

  return { messages, busy: isRequesting, ask, retry, stop: abort, clear }
}
