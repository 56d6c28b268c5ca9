//! Every format against the committed vectors, both ways: sealing with the same values gives the same bytes, and the
//! vectors' bytes open. The vectors come from `docs/vectors/make.py`, which shares no code with this crate.

use claviger_core::chance::{Chance, Fresh};
use claviger_core::codec::Canonical;
use claviger_core::crypto;
use claviger_core::envelope::{
    self, CHUNK_BYTES, Ciphertext, Context, Cutter, SEALED_CHUNK_BYTES, STREAM_HEADER_BYTES, StreamHeader,
    StreamOpener, StreamSealer,
};
use claviger_core::kdf::{self, Ctx, Label, label};
use claviger_core::kem::{self, KemPublic, KemSecret, SealedBox};
use claviger_core::keyring::{Keyring, SlotPublic};
use claviger_core::lthash::LtHash;
use claviger_core::material::{Algorithm, Buckets, Material, MaterialContext, Origin, Usage};
use claviger_core::name::{Digest, KeyId, Lineage, MaterialId, RequestId, Signature, VerifyingKey};
use claviger_core::record::{RecordKey, TenantTag};
use claviger_core::roster::{CustodianKeys, Holder};
use claviger_core::secret::{Secret32, SecretBytes};
use claviger_core::share::{self, Share, ShareContext};
use claviger_core::slot::{Locker, Root, SlotKind, SlotRecord, slots_digest};
use serde_json::Value;

fn vectors(section: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("../../../docs/vectors/v1.json")).unwrap();
    let found = all[section].clone();
    assert!(!found.is_null(), "no section {section}");
    found
}

fn bytes(v: &Value) -> Vec<u8> {
    hex::decode(v.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(v: &Value) -> [u8; N] {
    bytes(v).try_into().unwrap()
}

fn fresh<const N: usize>(v: &Value) -> Fresh<N> {
    Fresh::drawn(array(v))
}

fn chance(v: &Value) -> Chance {
    Chance::grow(fresh(v))
}

fn secret(v: &Value) -> Secret32 {
    Secret32::copy_from(&bytes(v)).unwrap()
}

fn number<T: TryFrom<u64, Error: std::fmt::Debug>>(v: &Value) -> T {
    v.as_u64().unwrap().try_into().unwrap()
}

fn list(v: &Value) -> &[Value] {
    let list = v.as_array().unwrap();
    assert!(!list.is_empty());
    list
}

fn label_of(v: &Value) -> Label {
    *label::ALL.iter().find(|l| l.as_str() == v.as_str().unwrap()).unwrap()
}

fn lineage() -> Lineage {
    Lineage(array(&vectors("root")["lineage"]))
}

fn root() -> Root {
    let v = vectors("root");
    Root::new(number(&v["number"]), secret(&v["key"]))
}

#[test]
fn every_label_has_a_vector() {
    let v = vectors("labels");
    assert_eq!(v.as_object().unwrap().len(), label::ALL.len());
    let key = secret(&vectors("kdf")[0]["key"]);
    for label in label::ALL {
        let out = kdf::derive::<32>(&key, label, &Ctx::new());
        assert_eq!(out.expose().as_slice(), bytes(&v[label.as_str()]), "{}", label.as_str());
    }
}

#[test]
fn keys_are_derived_alike() {
    let v = vectors("kdf");
    let key = secret(&v[0]["key"]);
    let narrow = kdf::derive::<32>(&key, label_of(&v[0]["label"]), &Ctx::new());
    assert_eq!(narrow.expose().as_slice(), bytes(&v[0]["out"]));
    let ctx = Ctx::new().u8(1).u16(2).u32(3).u64(4).lp(b"five").fixed(&[6; 32]);
    assert_eq!(ctx.as_slice(), bytes(&v[1]["ctx"]));
    let wide = kdf::derive::<64>(&key, label_of(&v[1]["label"]), &ctx);
    assert_eq!(wide.expose().as_slice(), bytes(&v[1]["out"]));
}

#[test]
fn single_use_seals_alike() {
    for v in list(&vectors("su")) {
        let (key, label, ctx) = (secret(&v["key"]), label_of(&v["label"]), Ctx::new().u32(7));
        assert_eq!(ctx.as_slice(), bytes(&v["ctx"]));
        let sealed = kdf::seal(&key, label, &ctx, &bytes(&v["plaintext"]), fresh(&v["salt"]));
        assert_eq!(sealed, bytes(&v["sealed"]));
        let opened = kdf::open(&key, label, &ctx, &bytes(&v["sealed"])).unwrap();
        assert_eq!(opened.expose(), bytes(&v["plaintext"]));
    }
}

#[test]
fn chance_is_the_chacha20_key_stream() {
    let v = vectors("chance");
    assert_eq!(chance(&v["seed"]).fresh::<100>().spend().as_slice(), bytes(&v["bytes"]));
}

/// The generator's own X-Wing agrees with the draft's vector (it asserts that); here the library's key pair does.
#[test]
fn x_wing_keys_grow_alike() {
    let v = vectors("xwing");
    assert_eq!(KemSecret::from_seed(secret(&v["seed"])).public().fingerprint().0, array(&v["public_sha256"]));
}

#[test]
fn boxes_seal_alike() {
    let v = vectors("box");
    let (pair, label, ctx) = (KemSecret::from_seed(secret(&v["seed"])), label_of(&v["label"]), Ctx::new().u32(7));
    let public = KemPublic::from_bytes(&bytes(&v["public"])).unwrap();
    assert_eq!(pair.public(), public);
    let plaintext = bytes(&v["plaintext"]);
    let sealed = kem::seal_to(&public, label, &ctx, &plaintext, fresh(&v["randomness"]), fresh(&v["salt"])).unwrap();
    assert_eq!(sealed.to_bytes(), bytes(&v["sealed"]));
    let read = SealedBox::from_bytes(&bytes(&v["sealed"])).unwrap();
    assert_eq!(kem::open(&pair, label, &ctx, &read).unwrap().expose(), plaintext);
}

fn sharing(v: &Value) -> ShareContext {
    let region = v["region"].as_str().unwrap().parse().unwrap();
    let (epoch, k, n) = (number(&v["epoch"]), number(&v["threshold"]), number(&v["count"]));
    ShareContext::new(Lineage(array(&v["lineage"])), region, epoch, k, n).unwrap()
}

fn holder((i, v): (usize, &Value)) -> Holder {
    let keys = CustodianKeys {
        identity: "spiffe://example.org/claviger/custodian/alice".parse().unwrap(),
        recipient: "age1example".into(),
        signing: VerifyingKey([1; 32]),
    };
    let (digest, proof_key) = (Digest(array(&v["digest"])), VerifyingKey(array(&v["proof_key"])));
    Holder { keys, index: u8::try_from(i + 1).unwrap(), digest, proof_key }
}

#[test]
fn shares_are_dealt_and_told_apart_alike() {
    for v in list(&vectors("sharing")) {
        let (ctx, challenge) = (sharing(v), bytes(&v["challenge"]));
        let dealt = share::deal(&secret(&v["secret"]), &ctx, &mut chance(&v["seed"]));
        assert_eq!(dealt.len(), usize::from(ctx.count()));
        for (share, v) in dealt.iter().zip(list(&v["shares"])) {
            assert_eq!(share.to_payload().expose(), bytes(&v["payload"]));
            assert_eq!(share.digest().0, array(&v["digest"]));
            assert_eq!(share.proof_key().0, array(&v["proof_key"]));
            assert_eq!(share.prove(&challenge).0, array(&v["proof"]));
            let proof = Signature(array(&v["proof"]));
            assert!(share::verify_proof(&VerifyingKey(array(&v["proof_key"])), &challenge, &proof));
        }
    }
}

#[test]
fn shares_combine_alike() {
    for v in list(&vectors("sharing")) {
        let (ctx, all) = (sharing(v), list(&v["shares"]));
        let holders: Vec<Holder> = all.iter().enumerate().map(holder).collect();
        let last = all.iter().rev().take(usize::from(ctx.threshold()));
        let shares: Vec<Share> = last.map(|v| Share::from_payload(&bytes(&v["payload"])).unwrap()).collect();
        assert_eq!(share::combine(&shares, &ctx, &holders).unwrap().expose().as_slice(), bytes(&v["secret"]));
    }
}

#[test]
fn the_root_commits_alike() {
    assert_eq!(root().commitment(&lineage()).0, array(&vectors("root")["commitment"]));
}

fn locker(v: &Value) -> (SlotKind, Locker) {
    if v["unsealing"].is_null() {
        return (SlotKind::Static, Locker::static_key(secret(&v["locker"])));
    }
    let region = v["region"].as_str().unwrap().parse().unwrap();
    let sharing = ShareContext::new(lineage(), region, number(&v["epoch"]), 3, 5).unwrap();
    let kind = SlotKind::Custodians { epoch: number(&v["epoch"]) };
    (kind, Locker::custodians(&secret(&v["unsealing"]), &sharing, number(&v["number"])))
}

/// The locker in the vector is the one derived from U: each opens what the other locked.
#[test]
fn slots_are_made_and_unlocked_alike() {
    let commitment = root().commitment(&lineage());
    for v in list(&vectors("slots")) {
        let (kind, locker) = locker(v);
        let made = SlotRecord::make(number(&v["number"]), kind, &locker, &root(), &lineage(), &mut chance(&v["seed"]));
        assert_eq!(made.to_bytes(), bytes(&v["record"]));
        let read = SlotRecord::from_bytes(&bytes(&v["record"])).unwrap();
        for locker in [locker, Locker::static_key(secret(&v["locker"]))] {
            let opened = read.unlock(&locker, &lineage(), &commitment).unwrap();
            assert_eq!(opened.key().expose(), root().key().expose());
        }
    }
}

fn slots() -> Vec<SlotRecord> {
    list(&vectors("slots")).iter().map(|v| SlotRecord::from_bytes(&bytes(&v["record"])).unwrap()).collect()
}

#[test]
fn the_slots_hash_alike() {
    assert_eq!(slots_digest(&slots()).0, array(&vectors("slots_digest")));
}

fn keyring() -> Keyring {
    let mut keyring = Keyring::draw(&mut chance(&vectors("keyring")["seed"]));
    slots().into_iter().for_each(|s| keyring.remember_slot(SlotPublic { number: s.number, public: s.public }));
    keyring
}

#[test]
fn the_keyring_seals_alike() {
    let v = vectors("keyring");
    assert_eq!(keyring().txn_key().public.0, array(&v["txn_public"]));
    assert_eq!(keyring().seal(&root(), &lineage(), fresh(&v["salt"])), bytes(&v["sealed"]));
    let opened = Keyring::open(&root(), &lineage(), &bytes(&v["sealed"])).unwrap();
    assert_eq!(opened.txn_key(), keyring().txn_key());
    assert_eq!(opened.slots(), keyring().slots());
    assert_eq!(opened.seal(&root(), &lineage(), fresh(&v["salt"])), bytes(&v["sealed"]));
}

#[test]
fn records_have_their_places_alike() {
    let (v, ring) = (vectors("keyring"), keyring());
    let user = "spiffe://example.org/claviger/service/alice".parse().unwrap();
    let material = MaterialId([0xab, 0xcd, 0, 0, 0, 0, 0, 1]);
    let places = [
        ("key", ring.key_record(&"tenants/acme/keys/invoice".parse().unwrap())),
        ("grant", ring.grant_record(&user)),
        ("request", ring.request_record(&user, &RequestId([1; 16]))),
        ("material", ring.material_record(&KeyId([2; 16]), 3, &material)),
        ("page", ring.page_record(&[4; 16])),
    ];
    for (name, place) in places {
        assert_eq!(place.to_bytes(), bytes(&v["places"][name]), "{name}");
    }
    assert_eq!(ring.tenant_tag(&"acme".parse().unwrap()).0, array(&v["tenant_acme"]));
    let tag = (number(&v["audit_tag"]["number"]), array(&v["audit_tag"]["tag"]));
    assert_eq!(ring.audit_tag(&bytes(&v["audit_tag"]["text"])), tag);
}

#[test]
fn records_seal_alike() {
    let ring = keyring();
    for v in list(&vectors("records")) {
        let place = RecordKey::from_bytes(&bytes(&v["place"])).unwrap();
        let (plaintext, replaces) = (bytes(&v["plaintext"]), number(&v["replaces"]));
        let value = ring.seal_record(&lineage(), &place, replaces, &plaintext, fresh(&v["salt"]));
        assert_eq!(value, bytes(&v["value"]));
        assert_eq!(ring.open_record(&lineage(), &place, &bytes(&v["value"])).ok().unwrap().expose(), plaintext);
    }
}

/// The whole record has 327,686 bytes: the vector has its hash, its first and its last key.
#[test]
fn buckets_seal_alike() {
    let v = vectors("buckets");
    let sealed = Buckets::draw(&mut chance(&v["seed"])).seal(&keyring(), &lineage(), &mut chance(&v["salts_seed"]));
    assert_eq!(sealed.len(), number::<usize>(&v["sealed_bytes"]));
    assert_eq!(sealed[6..86], bytes(&v["first"]));
    assert_eq!(sealed[sealed.len() - 80..], bytes(&v["last"]));
    assert_eq!(crypto::sha256(&[&sealed]).0, array(&v["sealed_sha256"]));
    assert!(Buckets::open(&sealed, &keyring(), &lineage()).is_some());
}

fn material() -> (MaterialContext, Material) {
    let v = vectors("material");
    let context = MaterialContext {
        tenant: TenantTag(array(&v["tenant"])),
        key: KeyId(array(&v["key"])),
        version: number(&v["version"]),
        material: MaterialId(array(&v["material"])),
        algorithm: Algorithm::Aes256Gcm,
        usage: Usage::from_bits(number(&v["usage"])).unwrap(),
        exportable: false,
        origin: Origin::Generated,
    };
    assert_eq!((number::<u8>(&v["algorithm"]), number::<u8>(&v["exportable"]), number::<u8>(&v["origin"])), (1, 0, 1));
    (context, Material::draw(context, fresh(&v["secret"])))
}

#[test]
fn material_seals_alike() {
    let (v, (context, material)) = (vectors("material"), material());
    let buckets = Buckets::draw(&mut chance(&vectors("buckets")["seed"]));
    assert_eq!(buckets.seal_material(&material, fresh(&v["salt"])), bytes(&v["sealed"]));
    assert!(buckets.open_material(&context, &bytes(&v["sealed"])).is_some());
}

#[test]
fn ciphertexts_seal_alike() {
    let (_, material) = material();
    for v in list(&vectors("ciphertexts")) {
        let pairs: Vec<(String, String)> = serde_json::from_value(v["context"].clone()).unwrap();
        let (context, plaintext) = (Context::new(&pairs).unwrap(), bytes(&v["plaintext"]));
        let sealed = envelope::encrypt(&material, &plaintext, &context, fresh(&v["salt"]), fresh(&v["nonce"]));
        assert_eq!(sealed.unwrap(), bytes(&v["ciphertext"]));
        let ciphertext = bytes(&v["ciphertext"]);
        let parsed = Ciphertext::parse(&ciphertext).unwrap();
        assert_eq!(envelope::decrypt(&material, &parsed, &context).unwrap().expose(), plaintext);
    }
}

/// Byte i is i mod 251.
fn counting(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i % 251) as u8).collect()
}

fn chunks(bytes: &[u8], chunk_bytes: usize) -> (Vec<SecretBytes>, SecretBytes) {
    let (mut cutter, mut piece) = (Cutter::new(chunk_bytes), bytes);
    let middle = std::iter::from_fn(|| cutter.cut(&mut piece)).collect();
    (middle, cutter.rest())
}

fn seal_stream(material: &Material, plaintext: &[u8], mut sealer: StreamSealer) -> Vec<u8> {
    let (middle, last) = chunks(plaintext, CHUNK_BYTES);
    let mut stream = sealer.header().as_bytes().to_vec();
    for chunk in &middle {
        let (sealed, next) = sealer.seal(material, chunk).unwrap();
        stream.extend(sealed);
        sealer = next;
    }
    stream.extend(sealer.seal_last(material, &last).unwrap());
    stream
}

fn open_stream(material: &Material, context: &Context, stream: &[u8]) -> Vec<u8> {
    let (head, sealed) = stream.split_at(STREAM_HEADER_BYTES);
    let mut opener = StreamOpener::begin(material, context, StreamHeader::parse(head).unwrap()).ok().unwrap();
    let (middle, last) = chunks(sealed, SEALED_CHUNK_BYTES);
    let mut plaintext = Vec::new();
    for chunk in &middle {
        let (opened, next) = opener.open(material, chunk.expose()).ok().unwrap();
        plaintext.extend_from_slice(opened.expose());
        opener = next;
    }
    plaintext.extend_from_slice(opener.open_last(material, last.expose()).unwrap().expose());
    plaintext
}

#[test]
fn streams_seal_alike() {
    let (_, material) = material();
    for v in list(&vectors("streams")) {
        let pairs: Vec<(String, String)> = serde_json::from_value(v["context"].clone()).unwrap();
        let (context, plaintext) = (Context::new(&pairs).unwrap(), counting(number(&v["plaintext_bytes"])));
        let sealer = StreamSealer::begin(&material, &context, fresh(&v["salt"]), fresh(&v["nonce_prefix"]));
        let stream = seal_stream(&material, &plaintext, sealer);
        assert_eq!(stream.len(), number::<usize>(&v["stream_bytes"]));
        assert_eq!(stream[..STREAM_HEADER_BYTES], array::<STREAM_HEADER_BYTES>(&v["head"]));
        assert_eq!(stream[stream.len() - 16..], array::<16>(&v["last_tag"]));
        assert_eq!(crypto::sha256(&[&stream]).0, array(&v["stream_sha256"]));
        if let Some(whole) = v.get("stream") {
            assert_eq!(stream, bytes(whole));
        }
        assert_eq!(open_stream(&material, &context, &stream), plaintext);
    }
}

#[test]
fn states_hash_alike() {
    for v in list(&vectors("lthash")) {
        let mut hash = LtHash::new();
        v["elements"].as_array().unwrap().iter().for_each(|e| hash.add(&bytes(e)));
        assert_eq!(hash.digest().0, array(&v["bytes_sha256"]));
    }
}
