// What a product's billing does with the official library, held against the sandbox: node stripe_node.mjs PORT CONTROL_PORT
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

const Stripe = createRequire(`${process.cwd()}/`)('stripe');
const [port, controlPort] = process.argv.slice(2);
const place = { host: '127.0.0.1', port, protocol: 'http', telemetry: false };
const stripe = new Stripe('sk_test_sandbox', { ...place, apiVersion: '2026-07-29.dahlia', maxNetworkRetries: 2 });

async function control(path, body) {
  const answer = await fetch(`http://127.0.0.1:${controlPort}/_sandbox/${path}`, { method: 'POST', body: JSON.stringify(body) });
  assert.ok(answer.ok, await answer.text());
}

async function refused(promise) {
  return promise.then(() => assert.fail('was not refused'), (error) => error);
}

async function press(url, fields) {
  const answer = await fetch(url, { method: 'POST', body: new URLSearchParams(fields), redirect: 'manual' });
  return { status: answer.status, location: answer.headers.get('location') };
}

// An endpoint that takes what it gets as the documentation of the library says
const received = [];
const server = createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  received.push(stripe.webhooks.constructEvent(Buffer.concat(parts), request.headers['stripe-signature'], secret));
  response.end();
}).listen(0, '127.0.0.1');
await once(server, 'listening');
const hook = `http://127.0.0.1:${server.address().port}/`;
const { secret, id: endpoint } = await stripe.webhookEndpoints.create({ url: hook, enabled_events: ['*'] });

async function event(type, about) {
  for (const deadline = Date.now() + 10000; Date.now() < deadline; await new Promise((done) => setTimeout(done, 10))) {
    const found = received.find((each) => each.type === type && (!about || each.data.object.id === about));
    if (found) return found.data.object;
  }
  return assert.fail(`no ${type}`);
}

// The plans, set up twice
async function plan(key, amount) {
  const { data: [known] } = await stripe.prices.list({ lookup_keys: [key] });
  const product = known?.product ?? (await stripe.products.create({ name: key, metadata: { plan: key } })).id;
  return stripe.prices.create({
    product, currency: 'usd', unit_amount: amount, recurring: { interval: 'month' }, lookup_key: key, transfer_lookup_key: true,
  });
}
await plan('pro', 100);
const pro = await plan('pro', 29900);
const team = await plan('team', 59900);
assert.deepEqual((await stripe.prices.list({ lookup_keys: ['pro', 'team'] })).data.map(({ id }) => id), [team.id, pro.id]);

// A lost answer does not make a second customer: the library repeats under the same key
await control('faults', { match: { room: 'stripe', path: '^/v1/customers$' }, times: 1, fault: { kind: 'cut_after' } });
const customer = await stripe.customers.create({ email: 'owner@example.com', metadata: { tenant_id: 't1' } });
assert.equal((await stripe.customers.list()).data.length, 1);
const limited = { kind: 'rate_limit', headers: { 'Stripe-Should-Retry': 'true' } };
await control('faults', { match: { room: 'stripe', path: '^/v1/customers/' }, times: 1, fault: limited });
assert.equal((await stripe.customers.retrieve(customer.id)).metadata.tenant_id, 't1');

// Checkout
const session = await stripe.checkout.sessions.create({
  mode: 'subscription', customer: customer.id, client_reference_id: 't1', line_items: [{ price: pro.id, quantity: 1 }],
  subscription_data: { metadata: { tenant_id: 't1' } },
  success_url: 'https://app.example.com/ok?session_id={CHECKOUT_SESSION_ID}', cancel_url: 'https://app.example.com/',
});
assert.equal((await press(session.url, { action: 'pay', number: '4000000000000341' })).status, 402);
const paid = await press(session.url, { action: 'pay', number: '4242 4242 4242 4242' });
assert.deepEqual(paid, { status: 303, location: `https://app.example.com/ok?session_id=${session.id}` });
const completed = await event('checkout.session.completed');
assert.equal(completed.payment_status, 'paid');
const { subscription: id } = completed;
const subscription = await stripe.subscriptions.retrieve(id, { expand: ['latest_invoice', 'customer'] });
assert.deepEqual([subscription.status, subscription.customer.email], ['active', 'owner@example.com']);
assert.equal(subscription.latest_invoice.parent.subscription_details.metadata.tenant_id, 't1');
const { items: { data: [item] } } = subscription;
assert.equal((await event('invoice.paid')).lines.data[0].pricing.price_details.price, pro.id);

// An upgrade, previewed; then one that is not paid
const change = (price) => ({ items: [{ id: item.id, price }], proration_behavior: 'always_invoice' });
const proration_date = Math.floor(Date.now() / 1000) + 1;
const preview = await stripe.invoices.createPreview({ subscription: id, subscription_details: { ...change(team.id), proration_date } });
const upgraded = await stripe.subscriptions.update(id, {
  ...change(team.id), proration_date, payment_behavior: 'pending_if_incomplete', expand: ['latest_invoice'],
});
assert.equal(upgraded.latest_invoice.total, preview.total);
assert.deepEqual([upgraded.pending_update, upgraded.items.data[0].price.lookup_key], [null, 'team']);
const bad = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer: customer.id });
await stripe.subscriptions.update(id, { default_payment_method: bad.id });
const more = { items: [{ id: item.id, quantity: 2 }], proration_behavior: 'always_invoice' };
const pending = await stripe.subscriptions.update(id, { ...more, payment_behavior: 'pending_if_incomplete' });
assert.equal(pending.pending_update.subscription_items[0].quantity, 2);
await stripe.invoices.voidInvoice(pending.latest_invoice);
assert.equal((await event('invoice.voided')).id, pending.latest_invoice);

// Errors
const declined = await refused(stripe.subscriptions.update(id, { ...more, payment_behavior: 'error_if_incomplete' }));
assert.ok(declined instanceof Stripe.errors.StripeCardError);
assert.deepEqual([declined.statusCode, declined.code, declined.decline_code], [402, 'card_declined', 'generic_decline']);
const unknown = await refused(stripe.subscriptions.retrieve('sub_unknown'));
assert.ok(unknown instanceof Stripe.errors.StripeInvalidRequestError);
assert.deepEqual([unknown.statusCode, unknown.code, unknown.param], [404, 'resource_missing', 'id']);
await stripe.customers.create({ name: 'a' }, { idempotencyKey: 'k' });
const other = await refused(stripe.customers.create({ name: 'b' }, { idempotencyKey: 'k' }));
assert.ok(other instanceof Stripe.errors.StripeIdempotencyError);
const stranger = await refused(new Stripe('sk_test_wrong', place).customers.list());
assert.ok(stranger instanceof Stripe.errors.StripeAuthenticationError);

// A downgrade at the period's end, then let go
const schedule = await stripe.subscriptionSchedules.create({ from_subscription: id });
const [{ start_date, end_date }] = schedule.phases;
await stripe.subscriptionSchedules.update(schedule.id, {
  end_behavior: 'release',
  phases: [
    { items: [{ price: team.id, quantity: 1 }], start_date, end_date },
    { items: [{ price: pro.id, quantity: 1 }], duration: { interval: 'month', interval_count: 1 } },
  ],
});
assert.equal((await refused(stripe.subscriptions.update(id, { cancel_at_period_end: true }))).statusCode, 400);
assert.equal((await stripe.subscriptionSchedules.release(schedule.id)).status, 'released');

// The portal, the end, and what has happened
const portal = await stripe.billingPortal.sessions.create({ customer: customer.id, return_url: 'https://app.example.com/' });
assert.equal((await press(portal.url, { action: 'cancel', subscription: id })).status, 303);
const leaving = await stripe.subscriptions.retrieve(id);
assert.deepEqual([leaving.cancel_at, leaving.cancel_at_period_end], [leaving.items.data[0].current_period_end, false]);
const charge = (await stripe.charges.list()).data.find((each) => each.paid);
assert.equal((await stripe.refunds.create({ charge: charge.id, amount: 1 })).status, 'succeeded');
assert.equal((await stripe.subscriptions.cancel(id)).status, 'canceled');
assert.equal((await event('customer.subscription.deleted', id)).ended_at > 0, true);
assert.equal((await stripe.customers.del(customer.id)).deleted, true);
assert.equal((await stripe.customers.retrieve(customer.id)).deleted, true);
await event('customer.deleted');
const happened = [];
for await (const each of stripe.events.list({ limit: 3 })) happened.push(each.id);
assert.ok(happened.length > 20 && new Set(happened).size === happened.length);
assert.ok(received.every((each) => happened.includes(each.id)));
await stripe.webhookEndpoints.del(endpoint);
console.log('good');
process.exit(); // the library keeps its connections
