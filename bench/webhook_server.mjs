// What a product does that takes Stripe's webhooks itself, without keeping them: node:http and the official library, which
// checks the signature of the raw body. node webhook_server.mjs PORT WORKERS, in a directory with the package `stripe`;
// the secret is in TENANTRY_WEBHOOK_SECRET.
import cluster from 'node:cluster';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

const [port, workers] = process.argv.slice(2).map(Number);

function answer(response, status, body) {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

function listen() {
  const Stripe = createRequire(`${process.cwd()}/`)('stripe');
  const stripe = new Stripe('sk_test_none');
  const secret = process.env.TENANTRY_WEBHOOK_SECRET;

  createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      try {
        const event = stripe.webhooks.constructEvent(Buffer.concat(parts), request.headers['stripe-signature'], secret);
        answer(response, 200, { id: event.id });
      } catch (error) {
        answer(response, 400, { detail: error.message });
      }
    });
  }).listen(port, '127.0.0.1');
}

if (workers > 1 && cluster.isPrimary) for (let i = 0; i < workers; i++) cluster.fork();
else listen();
