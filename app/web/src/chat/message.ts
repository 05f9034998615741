import type { MessageInfo } from '@ant-design/x-sdk/es/x-chat'
import type { AnswerPart } from '../api/answer'
import type { Turn } from '../api/client'
import type { Failure } from '../api/failure'

/** A question, or an answer as far as it has come. */
export interface Message {
  role: 'user' | 'assistant'
  content: string
  reasoning: string
  finishReason?: string
  failure?: Failure
}

export type MessageEntry = MessageInfo<Message>

/** What a stream adds to an answer: the next part, or why there is none. */
export interface AnswerEvent extends AnswerPart {
  failure?: Failure
}

export const question = (content: string): Message => ({ role: 'user', content, reasoning: '' })
export const emptyAnswer = (): Message => ({ role: 'assistant', content: '', reasoning: '' })

export function append(answer: Message, event: AnswerEvent): Message {
  return {
    ...answer,
    content: answer.content + (event.content ?? ''),
    reasoning: answer.reasoning + (event.reasoning ?? ''),
    ...(event.finishReason && { finishReason: event.finishReason }),
    ...(event.failure && { failure: event.failure }),
  }
}

/** What the model is told of a conversation: questions with their answers; one that got no word of answer is left out. */
export function turnsOf(messages: Message[]): Turn[] {
  const answered = messages.filter((message, index) => {
    const answer = message.role === 'assistant' ? message : messages[index + 1]
    return answer?.content
  })
  return answered.map(({ role, content }) => ({ role, content }))
}
