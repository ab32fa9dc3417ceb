/** The client IP: forms of addresses, trusted proxies, forged headers. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import fc from 'fast-check';
import {
  forwardedClientIp, toClientAddress, parseAddress, parseTrustedProxies,
} from '../../../src/http/input/client-ip.ts';
import { startServer, stopServers } from '../fake-service.ts';
import { exchange, post } from '../raw-client.ts';

const BODY = '{"user_id":"u","purpose":"p"}';

function countedAs(text: string) {
  const address = parseAddress(text);
  return address === null ? null : toClientAddress(address);
}

function counted(text: string): string | null {
  return countedAs(text)?.clientIp ?? null;
}

test('every address has one text to count by', () => {
  const rows: [string, string | null][] = [
    ['1.2.3.4', '1.2.3.4'], ['::ffff:1.2.3.4', '1.2.3.4'], ['::FFFF:102:304', '1.2.3.4'],
    ['0:0:0:0:0:ffff:1.2.3.4', '1.2.3.4'], ['::ffff:1.2.3.4%eth0', '1.2.3.4'],
    ['::1', '::/64'], ['::', '::/64'], ['::1.2.3.4', '::/64'],
    ['2001:DB8:0:0:1::9', '2001:db8::/64'], ['2001:db8::1', '2001:db8::/64'],
    ['2001:0db8:0000:0001:ffff:ffff:ffff:ffff', '2001:db8:0:1::/64'],
    ['fe80::1%eth0', 'fe80::/64'], ['64:ff9b::1.2.3.4', '1.2.3.4'],
    ['0:0:0:1::', '0:0:0:1::/64'], ['1::2:3:4:5', '1::/64'], ['::5:6:7:8:9:a', '0:0:5:6::/64'],
    ['::ffff:0:1.2.3.4', '::/64'],
    ['', null], ['1.2.3', null], ['01.2.3.4', null], ['1.2.3.256', null], ['unknown', null],
    ['_hidden', null], ['1.2.3.4:80', null], ['[::1]', null], ['2001:db8::1::2', null],
    ['12345::', null], [' 1.2.3.4', null], ['localhost', null],
  ];
  for (const [text, expected] of rows) assert.is(counted(text), expected, text);
});

test('an IPv4 address inside an IPv6 address counts as itself, in every technology', () => {
  const rows: [string, string][] = [
    // 6to4: bits 16 to 47, whatever follows.
    ['2002:102:304::1', '1.2.3.4'], ['2002:102:304:ffff:1:2:3:4', '1.2.3.4'],
    ['2002:FFFF:FFFF::', '255.255.255.255'], ['2002::1', '0.0.0.0'],
    ['2002:c000:0204::', '192.0.2.4'],
    // Teredo: the last 32 bits, inverted; the server in bits 32 to 63 does not count.
    ['2001:0:4136:e378:8000:63bf:3fff:fdd2', '192.0.2.45'],
    ['2001::63bf:fefd:fcfb', '1.2.3.4'], ['2001:0:9:9:9:9:fefd:fcfb', '1.2.3.4'],
    // NAT64: the last 32 bits of the well-known prefix.
    ['64:ff9b::102:304', '1.2.3.4'], ['0064:FF9B:0:0:0:0:1.2.3.4', '1.2.3.4'],
    ['::ffff:1.2.3.4', '1.2.3.4'],
  ];
  for (const [text, expected] of rows) {
    assert.equal(countedAs(text), { clientIp: expected, clientNet48: null }, text);
  }
});

test('any other IPv6 address counts by its /64 and by its /48', () => {
  const rows: [string, string, string][] = [
    ['2001:db8:0:1::9', '2001:db8:0:1::/64', '2001:db8::/48'],
    ['2001:db8:7:1::9', '2001:db8:7:1::/64', '2001:db8:7::/48'],
    ['2001:db8:7::9', '2001:db8:7::/64', '2001:db8:7::/48'],
    ['::1', '::/64', '::/48'], ['0:0:0:1::', '0:0:0:1::/64', '::/48'],
    ['0:0:1::', '0:0:1::/64', '0:0:1::/48'], ['fe80::1%eth0', 'fe80::/64', 'fe80::/48'],
    // Neighbours of the prefixes that contain an IPv4 address.
    ['2003:102:304::1', '2003:102:304::/64', '2003:102:304::/48'],
    ['2001:1::fefd:fcfb', '2001:1::/64', '2001:1::/48'],
    ['64:ff9b:0:0:0:1:102:304', '64:ff9b::/64', '64:ff9b::/48'],
    ['64:ff9b:1::102:304', '64:ff9b:1::/64', '64:ff9b:1::/48'],
    ['64:ff9c::102:304', '64:ff9c::/64', '64:ff9c::/48'],
  ];
  for (const [text, clientIp, clientNet48] of rows) {
    assert.equal(countedAs(text), { clientIp, clientNet48 }, text);
  }
});

test('property: every spelling of an IPv6 address counts as one /64', () => {
  const part = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff }));
  const groups = fc.array(part, { minLength: 8, maxLength: 8 });
  fc.assert(fc.property(groups, fc.boolean(), (numbers, upper) => {
    const full = numbers.map((n) => n.toString(16).padStart(4, '0')).join(':');
    // The URL parser is an independent implementation of RFC 5952.
    const short = new URL(`http://[${full}]/`).hostname.slice(1, -1);
    const mapped = numbers.slice(0, 5).every((n) => n === 0) && numbers[5] === 0xffff;
    fc.pre(!mapped && numbers[0] !== 0x2002 && numbers[0] !== 0x64);
    const zeroed = [...numbers.slice(0, 4), 0, 0, 0, 0].map((n) => n.toString(16)).join(':');
    const expected = `${new URL(`http://[${zeroed}]/`).hostname.slice(1, -1)}/64`;
    for (const text of [full, short]) {
      assert.is(counted(upper ? text.toUpperCase() : text), expected);
    }
  }), { numRuns: 2000 });
});

test('property: an IPv4 address and its mapped forms count as one', () => {
  fc.assert(fc.property(fc.ipV4(), (text) => {
    const [a, b, c, d] = text.split('.').map(Number) as [number, number, number, number];
    const hex = `::ffff:${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
    assert.is(counted(`::ffff:${text}`), text);
    assert.is(counted(hex), text);
  }));
});

test('the right-most untrusted entry is the client IP', () => {
  const { proxies, errors } = parseTrustedProxies('10.0.0.0/8, 192.0.2.1 2001:db8:ffff::/48');
  assert.equal(errors, []);
  const rows: [string | undefined, string, string | null][] = [
    ['1.1.1.1', '', '1.1.1.1'],
    ['1.1.1.1', '9.9.9.9', '1.1.1.1'],
    ['10.0.0.1', '', '10.0.0.1'],
    ['10.0.0.1', '1.1.1.1', '1.1.1.1'],
    ['::ffff:10.0.0.1', '1.1.1.1', '1.1.1.1'],
    ['10.0.0.1', '9.9.9.9, 1.1.1.1', '1.1.1.1'],
    ['10.0.0.1', '9.9.9.9, 1.1.1.1,10.2.2.2 ,\t192.0.2.1', '1.1.1.1'],
    ['10.0.0.1', '9.9.9.9,192.0.2.2', '192.0.2.2'],
    ['10.0.0.1', '10.0.0.3, 10.0.0.2', '10.0.0.3'],
    ['2001:db8:ffff::5', '2001:DB8:0:7::1', '2001:db8:0:7::/64'],
    ['10.0.0.1', '[2001:db8::1]:443', '2001:db8::/64'],
    ['10.0.0.1', '[2001:db8::1]', '2001:db8::/64'],
    ['10.0.0.1', '1.1.1.1:443', '1.1.1.1'],
    ['10.0.0.1', '::ffff:1.1.1.1', '1.1.1.1'],
    ['10.0.0.1', '1.1.1.1, unknown', '10.0.0.1'],
    ['10.0.0.1', '1.1.1.1, unknown, 10.0.0.2', '10.0.0.2'],
    ['10.0.0.1', '1.1.1.1,', '1.1.1.1'],
    ['10.0.0.1', '1.1.1.1, ', '1.1.1.1'],
    ['10.0.0.1', ',1.1.1.1,\t, ,10.0.0.2,, ,', '1.1.1.1'],
    ['10.0.0.1', `9.9.9.9, 1.1.1.1${','.repeat(5000)}`, '1.1.1.1'],
    ['10.0.0.1', '1.1.1.1, unknown,, ', '10.0.0.1'],
    ['10.0.0.1', ',', '10.0.0.1'],
    ['10.0.0.1', ' , ,', '10.0.0.1'],
    ['10.0.0.1', ', 10.0.0.2', '10.0.0.2'],
    // The IPv4 address of a proxy inside an IPv6 address is a client like any other.
    ['2002:a00:1::1', '1.1.1.1', '10.0.0.1'],
    ['64:ff9b::10.0.0.1', '1.1.1.1', '10.0.0.1'],
    ['10.0.0.1', '1.1.1.1, 2002:a00:2::1', '10.0.0.2'],
    ['10.0.0.1', '1.1.1.1, 2001::f5ff:fffd', '10.0.0.2'],
    ['10.0.0.1', '2002:102:304::1', '1.2.3.4'],
    ['10.0.0.1', '"[2001:db8::1]:80"', '10.0.0.1'],
    ['10.0.0.1', '_hidden', '10.0.0.1'],
    ['10.0.0.1', '1.1.1.1:443:2', '10.0.0.1'],
    ['10.0.0.1', '[1.1.1.1', '10.0.0.1'],
    ['10.0.0.1', `1.1.1.1${', 10.0.0.9'.repeat(19)}`, '1.1.1.1'],
    ['10.0.0.1', `1.1.1.1${', 10.0.0.9'.repeat(20)}`, '10.0.0.9'],
    [undefined, '1.1.1.1', null],
    ['', '1.1.1.1', null],
  ];
  for (const [peer, header, expected] of rows) {
    const client = forwardedClientIp(peer, header, proxies);
    assert.is(client?.clientIp ?? null, expected, `${peer} ${header}`);
  }
});

test('the header is ignored without trusted proxies', () => {
  const { proxies } = parseTrustedProxies('');
  assert.is(forwardedClientIp('10.0.0.1', '1.1.1.1', proxies)?.clientIp, '10.0.0.1');
});

test('property: entries that a client prepends never change its client IP', () => {
  const { proxies } = parseTrustedProxies('10.0.0.0/8');
  fc.assert(fc.property(fc.string(), (forged) => {
    const header = `${forged.replaceAll('\n', '')}, 1.1.1.1, 10.0.0.2`;
    assert.is(forwardedClientIp('10.0.0.1', header, proxies)?.clientIp, '1.1.1.1');
    const junk = forwardedClientIp('10.0.0.1', forged, proxies);
    assert.is(junk === null, false);
  }));
});

test('every error in the list is reported, including an entry that trusts every address', () => {
  const bad = ['0.0.0.0/0', '::/0', '::ffff:0.0.0.0/96', '10.0.0.0/33', '::/129', 'example.org',
    '10.0.0.0/', '10.0.0.0/8/8', '10.0.0.0/-1', '10.0.0.0/1e1', '010.0.0.1', 'fe80::1%eth0', '/8'];
  for (const entry of bad) {
    const { errors } = parseTrustedProxies(`10.0.0.1, ${entry}`);
    assert.is(errors.length, 1, entry);
    assert.ok(errors[0]?.includes(entry), entry);
  }
  assert.is(parseTrustedProxies(bad.join(',')).errors.length, bad.length);
  assert.equal(parseTrustedProxies(' 10.0.0.1 ,, ::1\t').errors, []);
  const { proxies } = parseTrustedProxies('::ffff:10.0.0.0/104');
  assert.ok(proxies.has('10.9.9.9'));
  assert.not(proxies.has('11.0.0.0'));
});

test('an address stays trusted or untrusted however many others are checked in between', () => {
  const { proxies } = parseTrustedProxies('10.0.0.0/8, 2001:db8::/32');
  for (let round = 0; round < 2; round += 1) {
    for (let at = 0; at < 3000; at += 1) {
      const rest = `${at >> 8}.${at & 255}`;
      assert.ok(proxies.has(`10.9.${rest}`));
      assert.not(proxies.has(`11.9.${rest}`));
      assert.ok(proxies.has('2001:db8:0:0:0:0:0:1'));
      assert.not(proxies.has('2001:db9:0:0:0:0:0:1'));
    }
  }
});

test('the server ignores forged headers and believes a trusted proxy', async () => {
  const two = 'X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 1.1.1.1, 127.0.0.1';
  const forged = { 'X-Real-IP': '8.8.8.8', Forwarded: `for=7.7.7.7\r\n${two}` };
  const plain = await startServer();
  await exchange(plain.port, post('/otp/request', BODY, forged));
  assert.is(plain.requests[0]?.clientIp, '127.0.0.1');
  const behind = await startServer({ trustedProxies: '127.0.0.0/8' });
  await exchange(behind.port, post('/otp/request', BODY, forged));
  assert.is(behind.requests[0]?.clientIp, '1.1.1.1');
});

test.after(stopServers);
test.run();
