#!/usr/bin/env python3
"""Makes v1.json, the test vectors of docs/formats.md, without any of the project's code.

Written from docs/formats.md and the standards alone. Hashes come from hashlib; AES-GCM, Ed25519, X25519 and ChaCha20 from the
`cryptography` package (pip install cryptography); ML-KEM-768 (FIPS 203), Shamir over GF(2^8) and everything above them
stand below in plain Python. Nothing is drawn: the same file comes out each time.

    python3 docs/vectors/make.py > docs/vectors/v1.json
"""

import hashlib
import hmac
import json
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

# --- codec -----------------------------------------------------------------------------------------------------------


def u8(x):
    return struct.pack(">B", x)


def u16(x):
    return struct.pack(">H", x)


def u32(x):
    return struct.pack(">I", x)


def u64(x):
    return struct.pack(">Q", x)


def lp(x):
    return u32(len(x)) + x


def ctx(*fields):
    return u8(len(fields)) + b"".join(fields)


# --- hashes, keys, single-use AEAD -----------------------------------------------------------------------------------


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def hkdf_expand(key, info, n):
    out, block, i = b"", b"", 0
    while len(out) < n:
        i += 1
        block = mac(key, block, info, u8(i))
        out += block
    return out[:n]


def kdf(key, label, context, n):
    return hkdf_expand(key, label.encode() + b"\0" + context + u32(8 * n), n)


def su_seal(key, label, context, plaintext, salt):
    bound = context + salt
    return salt + AESGCM(kdf(key, label, bound, 32)).encrypt(bytes(12), plaintext, bound)


def ed_public(seed):
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def ed_sign(seed, message):
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


class Chance:
    """The ChaCha20 key stream (RFC 8439 2.3) under a seed, from block 0, nonce of zeroes; words are little-endian."""

    def __init__(self, seed):
        self.stream = Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None).encryptor()

    def fresh(self, n):
        return self.stream.update(bytes(n))

    def word(self):
        return struct.unpack("<I", self.fresh(4))[0]


# --- ML-KEM-768 (FIPS 203) -------------------------------------------------------------------------------------------

Q, N, K, ETA, DU, DV = 3329, 256, 3, 2, 10, 4


def bit_reverse_7(i):
    return int(format(i, "07b")[::-1], 2)


ZETAS = [pow(17, bit_reverse_7(i), Q) for i in range(128)]
GAMMAS = [pow(17, 2 * bit_reverse_7(i) + 1, Q) for i in range(128)]


def ntt(f):
    f, i, length = list(f), 1, 128
    while length >= 2:
        for start in range(0, N, 2 * length):
            zeta, i = ZETAS[i], i + 1
            for j in range(start, start + length):
                t = zeta * f[j + length] % Q
                f[j], f[j + length] = (f[j] + t) % Q, (f[j] - t) % Q
        length //= 2
    return f


def inverse_ntt(f):
    f, i, length = list(f), 127, 2
    while length <= 128:
        for start in range(0, N, 2 * length):
            zeta, i = ZETAS[i], i - 1
            for j in range(start, start + length):
                t = f[j]
                f[j], f[j + length] = (t + f[j + length]) % Q, zeta * (f[j + length] - t) % Q
        length *= 2
    return [x * 3303 % Q for x in f]


def multiply(f, g):
    h = []
    for i in range(128):
        a0, a1, b0, b1 = f[2 * i], f[2 * i + 1], g[2 * i], g[2 * i + 1]
        h += [(a0 * b0 + a1 * b1 * GAMMAS[i]) % Q, (a0 * b1 + a1 * b0) % Q]
    return h


def add(*polynomials):
    return [sum(column) % Q for column in zip(*polynomials)]


def sample_ntt(seed):
    stream, out = hashlib.shake_128(seed).digest(168 * 8), []
    for a, b, c in zip(stream[0::3], stream[1::3], stream[2::3]):
        out += [d for d in (a + 256 * (b % 16), b // 16 + 16 * c) if d < Q]
    assert len(out) >= N
    return out[:N]


def bits(data):
    return [byte >> i & 1 for byte in data for i in range(8)]


def sample_cbd(data):
    b = bits(data)
    return [(sum(b[4 * i : 4 * i + 2]) - sum(b[4 * i + 2 : 4 * i + 4])) % Q for i in range(N)]


def encode(f, d):
    value = sum(x << (d * i) for i, x in enumerate(f))
    return value.to_bytes(32 * d, "little")


def decode(data, d):
    value = int.from_bytes(data, "little")
    return [value >> (d * i) & ((1 << d) - 1) for i in range(N)]


def compress(f, d):
    return [((x << d) + Q // 2) // Q % (1 << d) for x in f]


def decompress(f, d):
    return [(x * Q + (1 << (d - 1))) >> d for x in f]


def noise(seed, counter):
    return sample_cbd(hashlib.shake_256(seed + u8(counter)).digest(64 * ETA))


def matrix(rho):
    return [[sample_ntt(rho + u8(j) + u8(i)) for j in range(K)] for i in range(K)]


def g(data):
    digest = hashlib.sha3_512(data).digest()
    return digest[:32], digest[32:]


def mlkem_keygen(d):
    rho, sigma = g(d + u8(K))
    a = matrix(rho)
    s = [ntt(noise(sigma, i)) for i in range(K)]
    e = [ntt(noise(sigma, K + i)) for i in range(K)]
    t = [add(*(multiply(a[i][j], s[j]) for j in range(K)), e[i]) for i in range(K)]
    return b"".join(encode(x, 12) for x in t) + rho, s


def mlkem_encapsulate(public, m):
    shared, r = g(m + hashlib.sha3_256(public).digest())
    t = [decode(public[384 * i : 384 * i + 384], 12) for i in range(K)]
    a = matrix(public[-32:])
    y = [ntt(noise(r, i)) for i in range(K)]
    u = [add(inverse_ntt(add(*(multiply(a[j][i], y[j]) for j in range(K)))), noise(r, K + i)) for i in range(K)]
    mu = decompress(decode(m, 1), 1)
    v = add(inverse_ntt(add(*(multiply(t[j], y[j]) for j in range(K)))), noise(r, 2 * K), mu)
    return b"".join(encode(compress(x, DU), DU) for x in u) + encode(compress(v, DV), DV), shared


def mlkem_decrypt(s, c):
    u = [decompress(decode(c[320 * i : 320 * i + 320], DU), DU) for i in range(K)]
    v = decompress(decode(c[960:], DV), DV)
    w = inverse_ntt(add(*(multiply(s[j], ntt(u[j])) for j in range(K))))
    return encode(compress([(x - y) % Q for x, y in zip(v, w)], 1), 1)


# --- X-Wing and sealed boxes -----------------------------------------------------------------------------------------


def xwing_expand(seed):
    expanded = hashlib.shake_256(seed).digest(96)
    public_m, secret_m = mlkem_keygen(expanded[:32])
    secret_x = X25519PrivateKey.from_private_bytes(expanded[64:])
    return public_m + secret_x.public_key().public_bytes_raw(), secret_m


def xwing_public(seed):
    return xwing_expand(seed)[0]


def xwing_encapsulate(public, randomness):
    public_m, public_x = public[:1184], public[1184:]
    encapsulated_m, shared_m = mlkem_encapsulate(public_m, randomness[:32])
    ephemeral = X25519PrivateKey.from_private_bytes(randomness[32:])
    encapsulated_x = ephemeral.public_key().public_bytes_raw()
    shared_x = ephemeral.exchange(X25519PublicKey.from_public_bytes(public_x))
    shared = hashlib.sha3_256(shared_m + shared_x + encapsulated_x + public_x + rb"\.//^" + b"\\").digest()
    return encapsulated_m + encapsulated_x, shared


def box(public, label, context, plaintext, randomness, salt):
    encapsulation, shared = xwing_encapsulate(public, randomness)
    bound = ctx(lp(context), sha256(public), sha256(encapsulation))
    return encapsulation + lp(su_seal(shared, label, bound, plaintext, salt))


def check_xwing():
    """The first vector of draft-connolly-cfrg-xwing-kem, appendix C, and ML-KEM's own way back."""
    seed = bytes.fromhex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26")
    eseed = bytes.fromhex(
        "3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e2"
        "35b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2"
    )
    public, secret_m = xwing_expand(seed)
    encapsulation, shared = xwing_encapsulate(public, eseed)
    assert shared.hex() == "d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384"
    assert mlkem_decrypt(secret_m, encapsulation[:1088]) == eseed[:32]
    return {
        "seed": seed,
        "public_sha256": sha256(public),
        "randomness": eseed,
        "encapsulation_sha256": sha256(encapsulation),
        "shared": shared,
    }


# --- shares ----------------------------------------------------------------------------------------------------------


def times(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = a << 1 ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def deal(secret, k, n, chance):
    """One byte after the other; a zero byte after the last, whose shares are thrown away."""
    shares = [b""] * n
    for byte in secret + b"\0":
        coefficients = [byte] + [chance.word() & 0xFF for _ in range(k - 1)]
        for i in range(n):
            y = 0
            for c in reversed(coefficients):
                y = times(y, i + 1) ^ c
            shares[i] += u8(y)
    return [y[:32] for y in shares]


def share_fields(lineage, region, epoch, k, n, i):
    return [lineage, lp(region), u32(epoch), u8(k), u8(n), u8(i)]


def share_vector(lineage, region, epoch, k, n, secret, seed, challenge):
    shares = []
    for i, y in enumerate(deal(secret, k, n, Chance(seed)), start=1):
        fields = share_fields(lineage, region, epoch, k, n, i)
        proof_seed = kdf(y, "claviger/v1/share-proof-key", ctx(*fields), 32)
        shares.append(
            {
                "y": y,
                "digest": sha256(b"claviger/v1/share\0", ctx(*fields, y)),
                "proof_key": ed_public(proof_seed),
                "proof": ed_sign(proof_seed, b"claviger/v1/share-proof\0" + ctx(lp(challenge))),
                "payload": u16(1) + b"".join(fields) + y,
            }
        )
    head = {"lineage": lineage, "region": region.decode(), "epoch": epoch, "threshold": k, "count": n}
    return head | {"secret": secret, "seed": seed, "challenge": challenge, "shares": shares}


# --- slots and keyring -----------------------------------------------------------------------------------------------


def root_commitment(root, lineage, r):
    return kdf(root, "claviger/v1/root-commit", ctx(lineage, u32(r)), 32)


def slot(number, kind, epoch, locker, r, root, lineage, seed):
    chance = Chance(seed)
    pair = chance.fresh(32)
    public = xwing_public(pair)
    bound = ctx(lineage, u32(number), u8(kind), u32(epoch), sha256(public))
    locked = su_seal(locker, "claviger/v1/slot-lock", bound, pair, chance.fresh(32))
    randomness = chance.fresh(64)
    bound = ctx(lineage, u32(number), u32(r))
    sealed = box(public, "claviger/v1/slot-root", bound, root, randomness, chance.fresh(32))
    record = u16(1) + u32(number) + u8(kind) + u32(epoch) + public + locked + u32(r) + sealed
    return record, public


class Keyring:
    def __init__(self, seed, slots):
        chance = Chance(seed)
        self.txn, self.term, self.epoch, self.audit, self.index = (chance.fresh(32) for _ in range(5))
        self.slots = slots

    def plaintext(self):
        slots = u32(len(self.slots)) + b"".join(u32(number) + public for number, public in self.slots)
        series = b"".join(u32(1) + u32(number) + key for number, key in [(1, self.term), (0, self.epoch), (1, self.audit)])
        return u16(1) + u32(1) + self.txn + slots + series + self.index

    def sealed(self, root, r, lineage, salt):
        bound = ctx(lineage, u32(r))
        key = kdf(root, "claviger/v1/keyring-key", bound, 32)
        return u16(1) + u32(r) + su_seal(key, "claviger/v1/keyring", bound, self.plaintext(), salt)

    def tenant_tag(self, tenant):
        return mac(self.index, b"claviger/v1/tenant-tag\0", ctx(lp(tenant)))[:16]

    def tag(self, *fields):
        return mac(self.index, b"claviger/v1/record-tag\0", ctx(*fields))

    def record(self, lineage, place, replaces, plaintext, salt):
        padded = lp(plaintext)
        padded += bytes(-len(padded) % 64)
        bound = ctx(lineage, place[:1], place[1:17], place[17:], u64(replaces), u32(1))
        return u16(1) + u32(1) + u64(replaces) + su_seal(self.term, "claviger/v1/record", bound, padded, salt)


KEY, MATERIAL, GRANT, REQUEST, PAGE = 128, 129, 131, 132, 133


def places(ring):
    user = b"spiffe://example.org/claviger/service/alice"
    none = bytes(16)
    return {
        "key": u8(KEY) + ring.tenant_tag(b"acme") + ring.tag(u8(KEY), lp(b"acme"), lp(b"invoice")),
        "grant": u8(GRANT) + none + ring.tag(u8(GRANT), lp(b""), lp(user)),
        "request": u8(REQUEST) + none + ring.tag(u8(REQUEST), lp(b""), lp(user), bytes([1] * 16)),
        "material": u8(MATERIAL)
        + none
        + ring.tag(u8(MATERIAL), lp(b""), bytes([2] * 16), u32(3), bytes([0xAB, 0xCD, 0, 0, 0, 0, 0, 1])),
        "page": u8(PAGE) + none + ring.tag(u8(PAGE), lp(b""), bytes([4] * 16)),
    }


# --- material and ciphertext -----------------------------------------------------------------------------------------


def buckets(seed):
    chance = Chance(seed)
    return [chance.fresh(32) for _ in range(4096)]


def buckets_sealed(keys, ring, lineage, seed):
    chance = Chance(seed)
    out = u16(1) + u32(0)
    for b, key in enumerate(keys):
        out += su_seal(ring.epoch, "claviger/v1/bucket", ctx(lineage, u32(0), u16(b)), key, chance.fresh(32))
    return out


def material_sealed(keys, tenant, key_id, version, material_id, key, salt):
    bound = ctx(tenant, key_id, u32(version), material_id, u8(1), u32(0xC), u8(0), u8(1))
    bucket = int.from_bytes(material_id[:2], "big") >> 4
    return u16(1) + su_seal(keys[bucket], "claviger/v1/material", bound, key, salt)


def envelope(suite, material, tenant, key_id, version, material_id, pairs, salt, nonce):
    prefix = b"CLAV" + u8(1) + u8(suite) + u16(0) + key_id + u32(version) + material_id + salt
    okm = kdf(material, "claviger/v1/message", ctx(prefix, tenant), 64)
    head = prefix + nonce + okm[32:]
    pairs = sorted((name.encode(), value.encode()) for name, value in pairs)
    encoded = u32(len(pairs)) + b"".join(lp(name) + lp(value) for name, value in pairs)
    aad = b"claviger/v1/aad\0" + head + tenant + encoded
    return head, AESGCM(okm[:32]), aad


def ciphertext(material, tenant, key_id, version, material_id, plaintext, pairs, salt, nonce):
    head, aead, aad = envelope(1, material, tenant, key_id, version, material_id, pairs, salt, nonce)
    return head + aead.encrypt(nonce, plaintext, aad)


def stream(material, tenant, key_id, version, material_id, plaintext, pairs, salt, nonce_prefix):
    head, aead, aad = envelope(2, material, tenant, key_id, version, material_id, pairs, salt, nonce_prefix + bytes(5))
    chunks = [plaintext[at : at + 65_536] for at in range(0, len(plaintext), 65_536)] or [b""]
    for i, chunk in enumerate(chunks):
        last = i == len(chunks) - 1
        head += aead.encrypt(nonce_prefix + u32(i) + u8(last), chunk, hashlib.sha256(aad).digest())
    return head


def streamed(material, tenant, key_id, version, material_id, plaintext_bytes, pairs, salt, nonce_prefix):
    """Whole where it is short, else by its digest, its header and its last tag."""
    plaintext = bytes(i % 251 for i in range(plaintext_bytes))
    whole = stream(material, tenant, key_id, version, material_id, plaintext, pairs, salt, nonce_prefix)
    short = {"stream": whole} if plaintext_bytes < 100 else {}
    return {
        "plaintext_bytes": plaintext_bytes, "context": pairs, "salt": salt, "nonce_prefix": nonce_prefix,
        "stream_bytes": len(whole), "stream_sha256": sha256(whole), "head": whole[:112], "last_tag": whole[-16:], **short,
    }  # fmt: skip


# --- state hash ------------------------------------------------------------------------------------------------------


def lthash(elements):
    lanes = [0] * 1024
    for element in elements:
        expansion = hashlib.shake_128(b"claviger/v1/lthash\0" + element).digest(2048)
        lanes = [(a + b) & 0xFFFF for a, b in zip(lanes, struct.unpack(">1024H", expansion))]
    return struct.pack(">1024H", *lanes)


# --- what is signed --------------------------------------------------------------------------------------------------


def listed(*items):
    return u32(len(items)) + b"".join(items)


def genesis(txn_public):
    identity = b"spiffe://example.org/claviger/custodian/"
    custodians = [lp(identity + name) + lp(b"age1" + name) + fill(i) for i, name in [(1, b"alice"), (2, b"bob")]]
    members = [u64(i) + fill(i + 4) + fill(i + 8, 16) + u8(1) for i in (1, 2, 3)]
    roster = u16(1) + u64(1) + listed(*members)
    head = u16(1) + lp(b"demo") + lp(b"eu-west") + fill(0x5A) + u64(1_700_000_000_000) + u8(2)
    return head + listed(*custodians) + txn_public + roster


def header(lineage, txn_public, digests):
    head = u16(1) + lineage + u64(1) + u64(2) + fill(0xA0) + u32(1) + u64(3)
    return head + u32(1) + txn_public + b"".join(digests)


def mandate(lineage, sharing):
    """The custodians of a sharing have one node go on alone; enough of them sign, each with their share."""
    identity = lambda i: lp(b"spiffe://example.org/claviger/custodian/c" + str(i).encode())
    n, k = sharing["count"], sharing["threshold"]
    holders = [
        identity(i) + lp(b"age1c%d" % i) + fill(i) + u8(i) + share["digest"] + share["proof_key"]
        for i, share in enumerate(sharing["shares"], start=1)
    ]
    custodians = u16(1) + lp(sharing["region"].encode()) + u32(sharing["epoch"]) + u8(k) + listed(*holders)
    heir = u64(9) + fill(13) + fill(17, 16) + u8(1)
    said = u16(1) + lineage + u64(2) + heir + u8(1) + u64(4) + u64(3) + u64(57) + fill(0x60) + fill(0x61, 16) + u64(1_700_000_000_000)
    digest = sha256(b"claviger/v1/mandate\0", said)
    consents = []
    for i, share in list(enumerate(sharing["shares"], start=1))[n - k :]:
        fields = share_fields(lineage, sharing["region"].encode(), sharing["epoch"], k, n, i)
        seed = kdf(share["y"], "claviger/v1/share-proof-key", ctx(*fields), 32)
        challenge = digest + u8(i) + identity(i)
        consents.append(u8(i) + ed_sign(seed, b"claviger/v1/share-proof\0" + ctx(lp(challenge))))
    return {"bytes": said, "digest": digest, "custodians": sha256(custodians), "signed": said + custodians + listed(*consents)}


def batch(lineage, place):
    key, grant = place["key"], place["grant"]
    relies = listed(u8(1) + key + u64(7), u8(1) + grant + u64(8), u8(2) + u64(9), u8(3) + key[:17] + u64(10))
    records = u16(1) + fill(1, 16) + u64(4) + u64(5) + relies + listed(key + lp(b"value")) + listed(grant) + u8(1)
    effects = [
        u8(2) + fill(2, 16),
        u8(3) + u64(5) + u64(6),
        u8(4) + u64(7) + u64(8) + fill(9) + fill(10),
        u8(5),
    ]
    bare = [u16(1) + fill(0x30 + i, 16) + u64(4) + u64(5) + listed() * 3 + e for i, e in enumerate(effects)]
    return u16(1) + lineage + u64(1) + u64(2) + u32(1) + listed(records, *bare)


def members(lineage):
    """A roster that follows another, a ticket, and where a node says that it listens."""
    line = lambda i, role: u64(i) + fill(i + 4) + fill(i + 8, 16) + u8(role)
    roster = u16(2) + u64(2) + listed(line(1, 1), line(2, 2), line(3, 3)) + listed(u64(1), u64(3))
    seeds = listed(u64(1) + fill(5) + lp(b"n1:8444"), u64(2) + fill(6) + lp(b"n2:8444"))
    ticket = u16(1) + lp(b"demo") + lp(b"eu-west") + lineage + u64(4) + u64(1_700_000_000_000) + seeds + fill(0x5B)
    seed = fill(0x5C)
    said = b"claviger/v1/address\0" + u64(4) + fill(12, 16) + u64(7) + lp(b"n4:8444")
    return {
        "roster": roster,
        "ticket": {
            "text": "claviger-join-1:" + (ticket + sha256(ticket)[:8]).hex(), "secret": fill(0x5B),
            "digest": sha256(b"claviger/v1/ticket\0", fill(0x5B)),
        },
        "address": {"identity": seed, "disk": fill(12, 16), "bytes": u16(1) + u64(4) + u64(7) + lp(b"n4:8444") + ed_sign(seed, said)},
    }  # fmt: skip


def signed(domain, body, seed):
    return {"bytes": body, "signature": ed_sign(seed, domain + body)}


def transit(lineage, root):
    """The root key on its way to a peer: the peer's signed one-time key, and R sealed to it."""
    public, identity, nonce = xwing_public(fill(0xAB)), fill(0xAC), fill(0xAF)
    chance = Chance(fill(0xAD))
    bound = ctx(lineage, u64(2), u64(5), nonce, u32(1))
    sealed = box(public, "claviger/v1/root-transit", bound, root, chance.fresh(64), chance.fresh(32))
    said = b"claviger/v1/one-time-key\0" + lineage + u64(2) + u64(5) + nonce + public
    signature = ed_sign(identity, said)
    return {
        "key": fill(0xAB), "identity": identity, "seed": fill(0xAD), "to": 2, "seal_epoch": 5, "nonce": nonce,
        "sealed": u32(1) + sealed, "signature": signature,
    }  # fmt: skip


def ceremony(lineage, payload):
    """A ceremony's one-time key, as its host signs it, and a share sealed to it by its bearer."""
    public, identity, bearer = xwing_public(fill(0xBA)), fill(0xBC), b"spiffe://example.org/claviger/custodian/alice"
    statement = u16(1) + lineage + u64(1) + u64(2) + fill(0xBB, 16) + u64(3) + u64(4) + u64(5) + public
    said = b"claviger/v1/ceremony-key\0" + statement
    chance, bound = Chance(fill(0xBD)), ctx(sha256(said), u8(1), lp(bearer))
    return {
        "key": fill(0xBA), "identity": identity, "seed": fill(0xBD), "statement": statement, "signature": ed_sign(identity, said),
        "digest": sha256(said), "challenge": sha256(said) + u8(1) + lp(bearer),
        "sealed": box(public, "claviger/v1/share-transit", bound, payload, chance.fresh(64), chance.fresh(32)),
    }  # fmt: skip


# --- the vectors -----------------------------------------------------------------------------------------------------

def mark(disk, incarnation, number, vote, last):
    body = u16(1) + disk + u64(incarnation) + u64(number)
    body += (u8(1) + u64(vote[0]) + u64(vote[1])) if vote else u8(0) + bytes(16)
    body += (u8(1) + b"".join(map(u64, last))) if last else u8(0) + bytes(24)
    return body + sha256(b"claviger/v1/mark\0", body)


def marks():
    disk = fill(0x44, 16)
    cases = [(0, 1, None, None), (1, 2, None, None), (3, 700, (7, 2), (6, 3, 4096)), (3, 701, (8, 1), None)]
    return [
        {"disk": disk, "incarnation": i, "number": n, "vote": vote, "last": last, "bytes": mark(disk, i, n, vote, last)}
        for i, n, vote, last in cases
    ]


LABELS = [
    "locker", "slot-lock", "slot-root", "root-commit", "keyring-key", "keyring", "record", "bucket", "material", "message",
    "aad", "share", "share-proof-key", "share-proof", "tenant-tag", "record-tag", "audit-tag", "share-transit", "root-transit",
    "lthash",
]  # fmt: skip


def place(term, leader, index):
    return u64(term) + u64(leader) + u64(index)


def snapshot(lineage):
    def ids(*numbers):
        return listed(*[u64(n) for n in numbers])

    def pair(table, key, value):
        return u8(table) + lp(key) + lp(value)

    members = u8(1) + place(3, 2, 40) + listed(ids(1, 2, 3), ids(1, 2, 4)) + ids(1, 2, 3, 4)
    head = b"CLVS" + u16(1) + lineage + u64(1) + place(4, 3, 57) + members + u64(50) + u64(52) + u64(1_700_000_060_000) + fill(1) + fill(2)
    first = [pair(1, fill(3, 49), u64(7) + b"value"), pair(1, fill(4, 49), u64(8))]
    second = [pair(2, b"a", b"state"), pair(2, b"p/last", b"position")]
    chunks = [u8(1) + u64(n) + listed(*pairs) for n, pairs in enumerate([first, second])]
    bytes_of_pairs = 49 + 13 + 49 + 8 + 1 + 5 + 6 + 8
    parts, links = [*chunks, u8(2) + u64(2) + u64(4) + u64(bytes_of_pairs)], []
    for part in parts:
        links.append(sha256(links[-1] if links else sha256(head), part))
    whole = lp(head) + b"".join(lp(part) + link for part, link in zip(parts, links))
    seal = u64(2) + ed_sign(fill(5), b"claviger/v1/snapshot\0" + u64(2) + links[-1])
    return {"header": head, "image": sha256(head), "parts": parts, "links": links, "identity": fill(5), "file": whole + seal}


def fill(byte, n=32):
    return bytes([byte]) * n


def vectors():
    lineage, root, u = fill(0x11), fill(0x22), bytes(range(32))
    region = b"eu-west"
    sharing = [
        share_vector(lineage, region, 1, 3, 5, u, fill(0x33), b"challenge"),
        share_vector(lineage, region, 2, 2, 2, fill(0), fill(0x34), b""),
        share_vector(lineage, b"r", 7, 4, 64, fill(0xFF), fill(0x35), fill(1, 100)),
    ]
    locker = kdf(u, "claviger/v1/locker", ctx(lineage, lp(region), u32(1), u32(1)), 32)
    custodians, public_1 = slot(1, 1, 1, locker, 1, root, lineage, fill(0x44))
    static, public_2 = slot(2, 2, 0, fill(0x55), 1, root, lineage, fill(0x45))
    ring = Keyring(fill(0x66), [(1, public_1), (2, public_2)])
    place = places(ring)
    keys = buckets(fill(0x77))
    sealed_buckets = buckets_sealed(keys, ring, lineage, fill(0x78))
    tenant, key_id, material_id = ring.tenant_tag(b"acme"), fill(2, 16), bytes([0xAB, 0xCD, 0, 0, 0, 0, 0, 1])
    material = fill(0x88)
    messages = [
        (b"", []),
        (b"attack at dawn", [("purpose", "orders")]),
        (bytes(range(256)) * 3, [("b", "2"), ("a", "1"), ("\u00e9", "\u6f22"), ("aa", ""), ("", "empty")]),
    ]
    founding = genesis(ed_public(ring.txn))
    return {
        "labels": {"claviger/v1/" + l: kdf(u, "claviger/v1/" + l, ctx(), 32) for l in LABELS},
        "kdf": [
            {"key": u, "label": "claviger/v1/message", "ctx": c, "out": kdf(u, "claviger/v1/message", c, n)}
            for c, n in [(ctx(), 32), (ctx(u8(1), u16(2), u32(3), u64(4), lp(b"five"), fill(6)), 64)]
        ],
        "su": [
            {
                "key": u, "label": "claviger/v1/record", "ctx": ctx(u32(7)), "plaintext": p, "salt": fill(0x99),
                "sealed": su_seal(u, "claviger/v1/record", ctx(u32(7)), p, fill(0x99)),
            }
            for p in [b"", b"plaintext"]
        ],
        "chance": {"seed": fill(0x33), "bytes": Chance(fill(0x33)).fresh(100)},
        "xwing": check_xwing(),
        "box": {
            "seed": fill(0xAA), "public": xwing_public(fill(0xAA)), "label": "claviger/v1/slot-root", "ctx": ctx(u32(7)),
            "plaintext": b"a root key", "randomness": bytes(range(64)), "salt": fill(0xBB),
            "sealed": box(xwing_public(fill(0xAA)), "claviger/v1/slot-root", ctx(u32(7)), b"a root key", bytes(range(64)), fill(0xBB)),
        },
        "sharing": sharing,
        "root": {"number": 1, "key": root, "lineage": lineage, "commitment": root_commitment(root, lineage, 1)},
        "slots": [
            {"number": 1, "kind": 1, "epoch": 1, "unsealing": u, "region": region.decode(), "locker": locker, "seed": fill(0x44), "record": custodians},
            {"number": 2, "kind": 2, "epoch": 0, "locker": fill(0x55), "seed": fill(0x45), "record": static},
        ],
        "slots_digest": sha256(u32(2), custodians, static),
        "keyring": {
            "seed": fill(0x66), "salt": fill(0x67), "txn_public": ed_public(ring.txn), "sealed": ring.sealed(root, 1, lineage, fill(0x67)),
            "tenant_acme": tenant, "places": place,
            "audit_tag": {"number": 1, "text": b"10.0.0.1", "tag": mac(ring.audit, b"claviger/v1/audit-tag\0", ctx(lp(b"10.0.0.1")))},
        },
        "records": [
            {"place": place["key"], "replaces": r, "plaintext": p, "salt": fill(0xCC), "value": ring.record(lineage, place["key"], r, p, fill(0xCC))}
            for r, p in [(0, b""), (1, fill(7, 60)), (2**40, fill(8, 61))]
        ],
        "buckets": {
            "seed": fill(0x77), "salts_seed": fill(0x78), "sealed_bytes": len(sealed_buckets), "sealed_sha256": sha256(sealed_buckets),
            "first": sealed_buckets[6:86], "last": sealed_buckets[-80:],
        },
        "material": {
            "tenant": tenant, "key": key_id, "version": 3, "material": material_id, "algorithm": 1, "usage": 12, "exportable": 0, "origin": 1,
            "secret": material, "salt": fill(0xDD), "sealed": material_sealed(keys, tenant, key_id, 3, material_id, material, fill(0xDD)),
        },
        "ciphertexts": [
            {
                "plaintext": p, "context": c, "salt": fill(0xE0 + i), "nonce": fill(0xF0 + i, 12),
                "ciphertext": ciphertext(material, tenant, key_id, 3, material_id, p, c, fill(0xE0 + i), fill(0xF0 + i, 12)),
            }
            for i, (p, c) in enumerate(messages)
        ],
        "streams": [
            streamed(material, tenant, key_id, 3, material_id, n, c, fill(0xA0 + i), fill(0xB0 + i, 7))
            for i, (n, c) in enumerate([(0, []), (9, messages[2][1]), (65_536, []), (65_537, messages[1][1]), (200_000, [])])
        ],
        "genesis": {"bytes": founding, "lineage": sha256(b"claviger/v1/genesis\0", founding)},
        "header": signed(
            b"claviger/v1/header\0",
            header(lineage, ed_public(ring.txn), [root_commitment(root, lineage, 1), sha256(u32(2), custodians, static), fill(3), fill(4), fill(5)]),
            ring.txn,
        ),
        "mandate": mandate(lineage, sharing[0]),
        "batch": signed(b"claviger/v1/batch\0", batch(lineage, place), ring.txn),
        "members": members(lineage),
        "transit": transit(lineage, root),
        "ceremony": ceremony(lineage, sharing[0]["shares"][0]["payload"]),
        "snapshot": snapshot(lineage),
        "mark": marks(),
        "lthash": [
            {"elements": e, "bytes_sha256": sha256(lthash(e))} for e in [[], [b""], [b"a"], [b"a", b"b", b"a"], [fill(1, 1000)]]
        ],
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=1, ensure_ascii=True, default=lambda b: b.hex()))
