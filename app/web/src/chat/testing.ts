import type { AnswerPart } from '../api/answer'
import type { Api, ChatBody } from '../api/client'
import { type Message, question } from './message'

/** A message of a test, with what matters to it. */
export const message = (given: Partial<Message>): Message => ({ ...question('chat', null, ''), ...given })

/** A service whose answers a test writes: it sees what was asked and lets parts come one by one. */
export class ScriptedApi implements Api {
  readonly bodies: ChatBody[] = []
  private waiting: ((step: () => IteratorResult<AnswerPart>) => void) | undefined
  private aborted: (() => void) | undefined

  listModels = async () => [{ name: 'm', contextLength: null }]

  async *streamChat(body: ChatBody, signal: AbortSignal): AsyncGenerator<AnswerPart> {
    this.bodies.push(body)
    signal.addEventListener('abort', () => this.aborted?.())
    for (;;) {
      const step = await new Promise<() => IteratorResult<AnswerPart>>((resolve) => {
        this.waiting = resolve
        this.aborted = () => resolve(() => { throw new DOMException('stopped', 'AbortError') })
      })
      const { done, value } = step()
      if (done) return
      yield value
    }
  }

  async send(...parts: AnswerPart[]): Promise<void> {
    for (const value of parts) await this.step(() => ({ value }))
  }

  finish = () => this.step(() => ({ done: true, value: undefined }))
  fail = (error: Error) => this.step(() => { throw error })

  private async step(step: () => IteratorResult<AnswerPart>): Promise<void> {
    await settle()
    this.waiting?.(step)
    await settle()
  }
}

/** Lets everything that is ready happen. */
export const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve))
