import { errorMessage, Failure } from './failure'
import { sseData } from './sse'

/** A piece of a tool call; the pieces of one call share its index. */
export interface ToolCallPart {
  index: number
  id?: string
  name?: string
  arguments?: string
}

/** Tokens read and written for an answer, as the service counts them. */
export interface Usage {
  prompt: number
  completion: number
}

/** One step of an answer that is being written. */
export interface AnswerPart {
  content?: string
  reasoning?: string
  toolCalls?: ToolCallPart[]
  finishReason?: string
  usage?: Usage
}

interface Chunk {
  choices?: {
    delta?: {
      content?: string | null
      reasoning_content?: string | null
      tool_calls?: { index?: number; id?: string; function?: { name?: string; arguments?: string } }[] | null
    }
    finish_reason?: string | null
  }[]
  usage?: { prompt_tokens?: number; completion_tokens?: number } | null
}

/** A part has only what the chunk really said: most chunks are three letters of content. */
function partOf(chunk: Chunk): AnswerPart {
  const choice = chunk.choices?.[0]
  const delta = choice?.delta
  const part: AnswerPart = {}
  if (delta?.content) part.content = delta.content
  if (delta?.reasoning_content) part.reasoning = delta.reasoning_content
  if (delta?.tool_calls?.length) {
    part.toolCalls = delta.tool_calls.map((call, position) => ({
      index: call.index ?? position,
      ...(call.id && { id: call.id }),
      ...(call.function?.name && { name: call.function.name }),
      ...(call.function?.arguments && { arguments: call.function.arguments }),
    }))
  }
  if (choice?.finish_reason) part.finishReason = choice.finish_reason
  if (chunk.usage) part.usage = { prompt: chunk.usage.prompt_tokens ?? 0, completion: chunk.usage.completion_tokens ?? 0 }
  return part
}

function parse(data: string): Chunk {
  let chunk: unknown
  try {
    chunk = JSON.parse(data)
  } catch {
    throw new Failure('malformed', data.slice(0, 200))
  }
  if (typeof chunk !== 'object' || chunk === null) throw new Failure('malformed', data.slice(0, 200))
  const message = errorMessage(chunk)
  if (message !== undefined) throw new Failure('server', message)
  return chunk
}

/**
 * Reads a streamed chat completion.
 *
 * The end of the stream alone means nothing: a killed server and a finished answer end alike. Only a `finish_reason`
 * makes an answer whole; without one this throws a Failure 'cut' after the last part.
 */
export async function* readAnswer(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<AnswerPart> {
  let finished = false
  for await (const data of sseData(bytes)) {
    if (data === '[DONE]') break
    const part = partOf(parse(data))
    finished ||= part.finishReason !== undefined
    if (Object.keys(part).length > 0) yield part
  }
  if (!finished) throw new Failure('cut')
}
