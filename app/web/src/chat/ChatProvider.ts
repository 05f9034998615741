import { AbstractChatProvider, AbstractXRequestClass } from '@ant-design/x-sdk'
import type { TransformMessage } from '@ant-design/x-sdk/es/chat-providers'
import type { Api, ChatBody } from '../api/client'
import { asFailure, isAbort } from '../api/failure'
import { type AnswerEvent, append, emptyAnswer, type Message, question } from './message'

/**
 * One answer at a time, read through our own client.
 *
 * x-sdk's XRequest throws away what the server says about an error and takes every end of a stream for a success; both
 * matter here, so only its interface is used.
 */
class ChatRequest extends AbstractXRequestClass<ChatBody, AnswerEvent, Message> {
  readonly manual = true
  readonly isTimeout = false
  readonly isStreamTimeout = false
  asyncHandler: Promise<void> = Promise.resolve()
  private readonly api: Api
  private running: AbortController | null = null

  constructor(api: Api) {
    super('api') // the address is the client's business, but the base class wants a word
    this.api = api
  }

  get isRequesting(): boolean {
    return this.running !== null
  }

  run(body?: ChatBody): void {
    if (!body) return
    this.running = new AbortController()
    this.asyncHandler = this.read(body, this.running)
  }

  abort(): void {
    this.running?.abort()
  }

  private async read(body: ChatBody, running: AbortController): Promise<void> {
    const { onUpdate, onSuccess, onError } = this.options.callbacks ?? {}
    const headers = new Headers()
    try {
      for await (const part of this.api.streamChat(body, running.signal)) onUpdate?.(part, headers)
      onSuccess?.([], headers)
    } catch (error) {
      const failure = asFailure(error, 'malformed')
      if (!isAbort(error)) onUpdate?.({ failure }, headers)
      onError?.(isAbort(error) ? (error as Error) : failure)
    } finally {
      if (this.running === running) this.running = null
    }
  }
}

export class ChatProvider extends AbstractChatProvider<Message, ChatBody, AnswerEvent> {
  constructor(api: Api) {
    super({ request: new ChatRequest(api) })
  }

  transformParams(body: Partial<ChatBody>): ChatBody {
    return body as ChatBody
  }

  transformLocalMessage(body: Partial<ChatBody>): Message {
    return question(body.messages?.at(-1)?.content ?? '')
  }

  transformMessage({ originMessage, chunk }: TransformMessage<Message, AnswerEvent>): Message {
    return append(originMessage ?? emptyAnswer(), chunk ?? {}) // x-sdk passes no chunk with the final status
  }
}
