import { errorMessage, Failure } from './failure'
import { sseData } from './sse'

/** One step of an answer that is being written. */
export interface AnswerPart {
  content?: string
  reasoning?: string
  finishReason?: string
}

interface Chunk {
  choices?: { delta?: { content?: string | null; reasoning_content?: string | null }; finish_reason?: string | null }[]
}

/** A part has only what the chunk really said: most chunks are three letters of content. */
function partOf(chunk: Chunk): AnswerPart {
  const choice = chunk.choices?.[0]
  const part: AnswerPart = {}
  if (choice?.delta?.content) part.content = choice.delta.content
  if (choice?.delta?.reasoning_content) part.reasoning = choice.delta.reasoning_content
  if (choice?.finish_reason) part.finishReason = choice.finish_reason
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
