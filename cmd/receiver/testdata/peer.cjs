// The receiver of webhooks that users of @supabase/stripe-sync-engine write: each event is checked and upserted before it is
// answered. BenchmarkReceiverPeer runs it beside the package, which it fetches.
const http = require('node:http')
const { StripeSync, runMigrations } = require('@supabase/stripe-sync-engine')

const connectionString = process.env.PEER_DATABASE

async function main() {
  await runMigrations({ databaseUrl: connectionString, schema: 'stripe', logger: { info() {}, error: console.error } })
  const sync = new StripeSync({
    schema: 'stripe',
    poolConfig: { connectionString, max: 10 },
    stripeSecretKey: 'never used',
    stripeWebhookSecret: process.env.PEER_SECRET,
    backfillRelatedEntities: false,
    revalidateObjectsViaStripeApi: [],
  })
  const server = http.createServer((request, response) => {
    const chunks = []
    request.on('data', (chunk) => chunks.push(chunk))
    request.on('end', async () => {
      try {
        await sync.processWebhook(Buffer.concat(chunks), request.headers['stripe-signature'])
      } catch (error) {
        console.error(error)
        response.statusCode = 500
      }
      response.end('stored\n')
    })
  })
  server.listen(0, '127.0.0.1', () => console.log(`127.0.0.1:${server.address().port}`))
  process.stdin.resume().on('end', () => process.exit())
}

main()
