import { expect, test } from 'vitest'
import { mathExtensions } from './math'

/** What the extensions find at the beginning of a text: [raw, TeX, how it is shown]. */
function found(text: string): [string, string, boolean] | null {
  for (const extension of mathExtensions('x-tex') ?? []) {
    const token = 'tokenizer' in extension ? extension.tokenizer?.call({ lexer: {} as never }, text, []) : undefined
    if (token) return [token.raw, token.text as string, token.display as boolean]
  }
  return null
}

test.each([
  ['$x^2$ is', '$x^2$', 'x^2', false],
  ['\\(a + b\\) is', '\\(a + b\\)', 'a + b', false],
  ['$\\$5$', '$\\$5$', '\\$5', false],
  ['$$\nx\n$$\nafter', '$$\nx\n$$\n', 'x', true],
  ['\\[ x \\]', '\\[ x \\]', 'x', true],
])('%j has a formula', (text, raw, tex, display) => {
  expect(found(text)).toEqual([raw, tex, display])
})

test.each(['$5 and $10', '$ x $', 'no sign', '$5', '\\$x$'])('%j has none', (text) => {
  expect(found(text)).toBeNull()
})
