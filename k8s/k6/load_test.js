// The mixed load of `make load` for k6, against a deployed gateway. Arrival rates are constant, so that a gateway that
// is slow is not asked less. Give codes, posts and links that exist there:
//   k6 run -e GATEWAY=https://studio.example.com -e STRIPE_WEBHOOK_SECRET=whsec_… -e CODES=ab12cd -e POSTS=… -e LINKS=… \
//          -e MEDIA=/media/renditions/…mp4 -e OPERATOR_HEADER=X-Forwarded-User:ann -e PROFILE=steady k8s/k6/load_test.js
import http from 'k6/http';
import crypto from 'k6/crypto';
import { check } from 'k6';
import exec from 'k6/execution';

const SHARES = {
  "webhook": 30, "go": 25, "media": 15, "posts": 8, "post": 5, "links": 5, "link": 4, "plans": 3, "readyz": 3, "livez": 2
};
const RATE = Number(__ENV.RATE || 100);
const GATEWAY = __ENV.GATEWAY || 'http://127.0.0.1:8000';
const pick = (name) => { const all = (__ENV[name] || '').split(',').filter(Boolean); return all[Math.floor(Math.random() * all.length)]; };
const arrivals = (executor) => ({ exec: 'mixed', preAllocatedVUs: 100, maxVUs: 2000, timeUnit: '1s', ...executor });
const WARM_UP = { warm_up: arrivals({ executor: 'constant-arrival-rate', rate: RATE, duration: '30s', tags: { part: 'warm-up' } }) };
const PROFILES = {
  steady: { steady: arrivals({ executor: 'constant-arrival-rate', rate: RATE, duration: '5m', startTime: '30s', tags: { part: 'told' } }) },
  spike: {
    spike: arrivals({
      executor: 'ramping-arrival-rate', startRate: RATE, startTime: '30s', tags: { part: 'told' },
      stages: [
        { target: RATE, duration: '60s' }, { target: 5 * RATE, duration: '1s' }, { target: 5 * RATE, duration: '60s' },
        { target: RATE, duration: '1s' }, { target: RATE, duration: '60s' },
      ],
    }),
  },
  soak: { soak: arrivals({ executor: 'constant-arrival-rate', rate: RATE, duration: '30m', startTime: '30s', tags: { part: 'told' } }) },
};

const profile = __ENV.PROFILE || 'steady';
export const options = {
  scenarios: { ...WARM_UP, ...PROFILES[profile] },
  // A spike is to be got over, not to be met.
  thresholds: profile === 'spike' ? { 'http_req_failed{part:told}': ['rate==0'] } : {
    'http_req_duration{part:told}': ['p(95)<50', 'p(99)<150'],
    'http_req_failed{part:told}': ['rate==0'],
  },
  noCookiesReset: true,
};

const TOTAL = Object.values(SHARES).reduce((sum, share) => sum + share, 0);
function drawn() {
  let left = Math.random() * TOTAL;
  for (const [name, share] of Object.entries(SHARES)) { left -= share; if (left < 0) return name; }
  return 'livez';
}

function operator() {
  const [name, value] = (__ENV.OPERATOR_HEADER || '').split(':');
  return name ? { [name]: value } : {};
}

function webhook() {
  const id = `evt_k6_${exec.scenario.iterationInTest}_${exec.instance.currentTestRunDuration}`;
  const now = Math.floor(Date.now() / 1000);
  const body = JSON.stringify({
    id, object: 'event', type: 'customer.subscription.updated', livemode: false, created: now, data: { object: { id } },
  });
  const signature = crypto.hmac('sha256', __ENV.STRIPE_WEBHOOK_SECRET || 'sandbox-stripe-webhook-secret', `${now}.${body}`, 'hex');
  return http.post(`${GATEWAY}/webhooks/stripe`, body, { headers: { 'Stripe-Signature': `t=${now},v1=${signature}` } });
}

function media() {
  const first = Math.floor(Math.random() * 4) * 262144;
  return http.get(`${GATEWAY}${__ENV.MEDIA}`, { headers: { Range: `bytes=${first}-${first + 262143}` } });
}

const page = (path) => http.get(`${GATEWAY}${path}`, { headers: operator() });
const ASKS = {
  webhook, media,
  go: () => http.get(`${GATEWAY}/go/${pick('CODES')}`, { redirects: 0, headers: { 'User-Agent': `Mozilla/5.0 (${exec.scenario.iterationInTest})` } }),
  posts: () => page('/publications'),
  post: () => page(`/publications/${pick('POSTS')}`),
  links: () => page('/links'),
  link: () => page(`/links/${pick('LINKS')}`),
  plans: () => page('/billing'),
  readyz: () => http.get(`${GATEWAY}/readyz`),
  livez: () => http.get(`${GATEWAY}/livez`),
};
const WANTED = { go: 302, media: 206 };

export function mixed() {
  const name = drawn();
  const answer = ASKS[name]();
  check(answer, { [`${name} is answered`]: (got) => got.status === (WANTED[name] || 200) });
}
