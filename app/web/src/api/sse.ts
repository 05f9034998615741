/**
 * The `data` of each server-sent event, as it arrives.
 *
 * Follows the event stream format of the HTML standard: CR, LF and CRLF end a line, a line that starts with a colon is a
 * comment (the service sends one as a sign of life), several data lines are joined by LF, and an event that the stream's
 * end cuts off is dropped.
 */
export async function* sseData(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let rest = ''
  let data: string[] = []
  for await (const chunk of bytes) {
    rest += decoder.decode(chunk, { stream: true })
    const lines = rest.split(/\r\n|\n|\r(?!$)/) // a CR at the very end may be half of a CRLF
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) yield data.join('\n')
        data = []
      } else if (line.startsWith('data:')) {
        data.push(line.slice(5).replace(/^ /, ''))
      }
    }
  }
}
