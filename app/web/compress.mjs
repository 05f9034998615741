// Puts a .gz and a .br beside every asset, for Nginx' gzip_static and brotli_static; the same build gives the same bytes.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { brotliCompressSync, gzipSync } from 'node:zlib'

for (const name of readdirSync('dist/assets').filter((file) => /\.(js|css|svg)$/.test(file))) {
  const data = readFileSync(`dist/assets/${name}`)
  writeFileSync(`dist/assets/${name}.gz`, gzipSync(data, { level: 9 }))
  writeFileSync(`dist/assets/${name}.br`, brotliCompressSync(data))
}
