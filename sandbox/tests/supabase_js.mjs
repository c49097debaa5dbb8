// What a product's backend and its users do with the official client, held against the sandbox: node supabase_js.mjs URL SERVICE_ROLE ANON
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const { createClient } = createRequire(`${process.cwd()}/`)('@supabase/supabase-js');
const [url, service, anon] = process.argv.slice(2);
const options = {
  auth: { persistSession: false, autoRefreshToken: false },
  realtime: { transport: class {} }, // Node.js 20 has no WebSocket, and nothing here needs one
};
const { auth: { admin } } = createClient(url, service, options);

function good({ data, error }) {
  assert.equal(error, null);
  return data;
}

// Administration
const { user: ada } = good(await admin.createUser({
  email: 'Ada@Example.com', password: 'correct horse', email_confirm: true, user_metadata: { name: 'Ada' },
}));
assert.equal(ada.email, 'ada@example.com');
assert.deepEqual(ada.identities.map(({ provider, user_id }) => [provider, user_id]), [['email', ada.id]]);
assert.equal(good(await admin.getUserById(ada.id)).user.id, ada.id);
for (const name of ['bob', 'cora']) good(await admin.createUser({ email: `${name}@example.com`, email_confirm: true }));

const page = good(await admin.listUsers({ page: 1, perPage: 2 }));
assert.deepEqual(page.users.map(({ email }) => email), ['cora@example.com', 'bob@example.com']);
assert.deepEqual([page.total, page.nextPage, page.lastPage], [3, 2, 2]);
const end = good(await admin.listUsers({ page: 2, perPage: 2 }));
assert.deepEqual(end.users.map(({ id }) => id), [ada.id]);
assert.equal(end.nextPage, null);

// Errors carry the code of the new version of the API
const taken = await admin.createUser({ email: 'ada@example.com' });
assert.deepEqual([taken.error.status, taken.error.code], [422, 'email_exists']);
const nobody = await admin.getUserById('0190a000-0000-7000-8000-00000000ffff');
assert.deepEqual([nobody.error.status, nobody.error.code], [404, 'user_not_found']);
const weak = await admin.updateUserById(ada.id, { password: 'short' });
assert.equal(weak.error.name, 'AuthWeakPasswordError');
assert.deepEqual([weak.error.status, weak.error.code, weak.error.reasons], [422, 'weak_password', ['length']]);
const closed = await createClient(url, anon, options).auth.admin.listUsers();
assert.deepEqual([closed.error.status, closed.error.code], [403, 'not_admin']);

// A person
const { auth } = createClient(url, anon, options);
const wrong = await auth.signInWithPassword({ email: 'ada@example.com', password: 'wrong horse' });
assert.deepEqual([wrong.error.status, wrong.error.code], [400, 'invalid_credentials']);
const { session } = good(await auth.signInWithPassword({ email: 'ada@example.com', password: 'correct horse' }));
assert.equal(good(await auth.getUser()).user.id, ada.id);
assert.equal((await auth.updateUser({ password: 'x' })).error.name, 'AuthWeakPasswordError');
good(await auth.updateUser({ password: 'battery staple' }));
assert.notEqual(good(await auth.refreshSession()).session.refresh_token, session.refresh_token);
good(await admin.updateUserById(ada.id, { ban_duration: '24h' }));
const banned = await auth.signInWithPassword({ email: 'ada@example.com', password: 'battery staple' });
assert.equal(banned.error.code, 'user_banned');
good(await admin.updateUserById(ada.id, { ban_duration: 'none' }));
good(await auth.signInWithPassword({ email: 'ada@example.com', password: 'battery staple' }));
const { refresh_token } = good(await auth.getSession()).session;
assert.equal((await auth.signOut()).error, null);
assert.equal((await auth.refreshSession({ refresh_token })).error.code, 'refresh_token_not_found');

// A link, used up by its hash
const { properties } = good(await admin.generateLink({ type: 'magiclink', email: 'bob@example.com' }));
const link = { type: 'magiclink', token_hash: properties.hashed_token };
assert.equal(good(await auth.verifyOtp(link)).user.email, 'bob@example.com');
assert.equal((await auth.verifyOtp(link)).error.code, 'otp_expired');

// Deleted: hidden, then gone
assert.equal((await admin.deleteUser(ada.id, true)).error, null);
const { user: hidden } = good(await admin.getUserById(ada.id));
assert.ok(hidden.deleted_at);
assert.ok(!hidden.email.includes('@') && hidden.identities.length === 0 && Object.keys(hidden.user_metadata).length === 0);
assert.equal((await auth.signInWithPassword({ email: 'ada@example.com', password: 'battery staple' })).error.code,
  'invalid_credentials');
good(await admin.createUser({ email: 'ada@example.com' }));
assert.equal((await admin.deleteUser(ada.id)).error, null);
assert.equal((await admin.getUserById(ada.id)).error.code, 'user_not_found');
console.log('good');
