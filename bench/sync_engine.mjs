// Applies events, one JSON text a line, with Supabase's Stripe Sync Engine, so many at once, and tells how long it took.
// node sync_engine.mjs prepare|apply DATABASE_URL [FILE AT_ONCE], in a directory with the packages.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const { StripeSync, runMigrations } = createRequire(`${process.cwd()}/`)('@supabase/stripe-sync-engine');
const [what, databaseUrl, file, atOnce] = process.argv.slice(2);

async function apply() {
  const sync = new StripeSync({
    stripeSecretKey: 'sk_test_none', stripeWebhookSecret: 'whsec_none',
    poolConfig: { connectionString: databaseUrl, max: Number(atOnce) },
  });
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
  let next = 0;

  async function work() {
    while (next < lines.length) await sync.processEvent(JSON.parse(lines[next++]));
  }

  console.log('measuring');
  const cpu = process.cpuUsage();
  const began = process.hrtime.bigint();
  await Promise.all(Array.from({ length: Number(atOnce) }, work));
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  const { user, system } = process.cpuUsage(cpu);
  console.log(JSON.stringify({
    events: lines.length, seconds, cpu_seconds: (user + system) / 1e6, rss_mb: process.memoryUsage().rss / 1e6,
  }));
  await sync.postgresClient.pool.end();
}

if (what === 'prepare') await runMigrations({ databaseUrl, schema: 'stripe', logger: { info() {}, error: console.error } });
else await apply();
