//! A stream opens as it was sealed, and not at all when anything about it was changed.

use super::*;
use crate::material::{Algorithm, MaterialContext, Origin, Usage};
use crate::name::{KeyId, MaterialId};
use crate::record::TenantTag;
use proptest::prelude::*;

const HEAD: usize = STREAM_HEADER_BYTES;
const SEALED: usize = SEALED_CHUNK_BYTES;

fn context_of(version: u32) -> MaterialContext {
    MaterialContext {
        tenant: TenantTag([1; 16]),
        key: KeyId([2; 16]),
        version,
        material: MaterialId([4; 8]),
        algorithm: Algorithm::Aes256Gcm,
        usage: Usage::ENCRYPT_DECRYPT,
        exportable: false,
        origin: Origin::Generated,
    }
}

fn material() -> Material {
    Material::draw(context_of(3), Fresh::drawn([5; 32]))
}

fn bound() -> Context {
    Context::new(&[("file", "a")]).unwrap()
}

/// Bytes of which no two chunks are alike.
fn plaintext(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i % 251) as u8).collect()
}

fn begun(salt: u8) -> StreamSealer {
    StreamSealer::begin(&material(), &bound(), Fresh::drawn([salt; 32]), Fresh::drawn([7; NONCE_PREFIX_BYTES]))
}

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::take(bytes.to_vec())
}

/// Seals in pieces of that size.
fn sealed_in(salt: u8, plaintext: &[u8], piece_bytes: usize) -> Vec<u8> {
    let (material, mut sealer, mut cutter) = (material(), begun(salt), Cutter::new(CHUNK_BYTES));
    let mut out = sealer.header().as_bytes().to_vec();
    for mut piece in plaintext.chunks(piece_bytes) {
        while let Some(chunk) = cutter.cut(&mut piece) {
            let (sealed, next) = sealer.seal(&material, &chunk).unwrap();
            out.extend(sealed);
            sealer = next;
        }
    }
    out.extend(sealer.seal_last(&material, &cutter.rest()).unwrap());
    out
}

fn sealed(bytes: usize) -> Vec<u8> {
    sealed_in(6, &plaintext(bytes), 1 << 20)
}

fn opened_with(material: &Material, context: &Context, stream: &[u8]) -> Option<Vec<u8>> {
    let (head, mut rest) = stream.split_at_checked(HEAD)?;
    let header = StreamHeader::parse(head).ok()?;
    let mut opener = StreamOpener::begin(material, context, header).ok()?;
    let (mut out, mut cutter) = (Vec::new(), Cutter::new(SEALED));
    while let Some(chunk) = cutter.cut(&mut rest) {
        let (plaintext, next) = opener.open(material, chunk.expose()).ok()?;
        out.extend_from_slice(plaintext.expose());
        opener = next;
    }
    out.extend_from_slice(opener.open_last(material, cutter.rest().expose()).ok()?.expose());
    Some(out)
}

fn opened(stream: &[u8]) -> Option<Vec<u8>> {
    opened_with(&material(), &bound(), stream)
}

/// The sealed chunks of a stream, header apart.
fn taken_apart(stream: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (head, rest) = stream.split_at(HEAD);
    (head.to_vec(), rest.chunks(SEALED).map(<[u8]>::to_vec).collect())
}

fn put_together(head: &[u8], chunks: &[&Vec<u8>]) -> Vec<u8> {
    let chunks = chunks.iter().flat_map(|chunk| chunk.iter().copied());
    head.iter().copied().chain(chunks).collect()
}

#[test]
fn each_length_has_one_shape() {
    for (bytes, chunks) in [
        (0, 1),
        (1, 1),
        (CHUNK_BYTES - 1, 1),
        (CHUNK_BYTES, 1),
        (CHUNK_BYTES + 1, 2),
        (2 * CHUNK_BYTES, 2),
        (3 * CHUNK_BYTES + 17, 4),
    ] {
        let stream = sealed(bytes);
        assert_eq!(stream.len(), HEAD + bytes + chunks * TAG_BYTES, "{bytes}");
        assert_eq!(opened(&stream), Some(plaintext(bytes)), "{bytes}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_of_any_size_seal_alike(bytes in 0..3 * CHUNK_BYTES, piece in 1..2 * CHUNK_BYTES) {
        prop_assert_eq!(sealed_in(6, &plaintext(bytes), piece), sealed(bytes));
    }

    #[test]
    fn refuses_a_flipped_bit_anywhere(bit in 0..8 * (HEAD + 2 * CHUNK_BYTES + 100 + 3 * TAG_BYTES)) {
        let mut stream = sealed(2 * CHUNK_BYTES + 100);
        stream[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(opened(&stream), None);
    }

    #[test]
    fn refuses_a_cut_anywhere(kept in 0..HEAD + 2 * CHUNK_BYTES + 100 + 3 * TAG_BYTES) {
        prop_assert_eq!(opened(&sealed(2 * CHUNK_BYTES + 100)[..kept]), None);
    }

    #[test]
    fn refuses_anything_behind_the_end(behind in prop::collection::vec(any::<u8>(), 1..2 * SEALED)) {
        for bytes in [0, 100, CHUNK_BYTES, CHUNK_BYTES + 1] {
            prop_assert_eq!(opened(&[sealed(bytes), behind.clone()].concat()), None);
        }
    }

    #[test]
    fn refuses_every_order_of_the_chunks_but_their_own(order in prop::collection::vec(0..4_usize, 0..6)) {
        let (head, chunks) = taken_apart(&sealed(4 * CHUNK_BYTES));
        let stream = put_together(&head, &order.iter().map(|at| &chunks[*at]).collect::<Vec<_>>());
        prop_assert_eq!(opened(&stream).is_some(), order == [0, 1, 2, 3]);
    }
}

#[test]
fn refuses_every_flipped_bit_and_cut_of_a_short_stream() {
    for bytes in [0, 9] {
        let stream = sealed(bytes);
        for bit in 0..stream.len() * 8 {
            let mut changed = stream.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened(&changed), None, "bit {bit}");
        }
        assert!((0..stream.len()).all(|kept| opened(&stream[..kept]).is_none()));
    }
}

#[test]
fn refuses_cuts_between_chunks_and_doubled_chunks() {
    for bytes in [3 * CHUNK_BYTES, 2 * CHUNK_BYTES + 1] {
        let stream = sealed(bytes);
        let (head, chunks) = taken_apart(&stream);
        let [a, b, c] = [&chunks[0], &chunks[1], &chunks[2]];
        assert!(opened(&put_together(&head, &[a, b, c])).is_some());
        for wrong in [
            &[a][..],
            &[a, b],
            &[b, c],
            &[a, c],
            &[c],
            &[],
            &[b, a, c],
            &[a, a, b, c],
            &[a, b, b, c],
            &[a, b, c, c],
            &[a, b, c, a],
        ] {
            assert_eq!(opened(&put_together(&head, wrong)), None);
        }
    }
}

#[test]
fn refuses_chunks_of_another_stream() {
    let (ours, theirs) =
        (sealed_in(6, &plaintext(2 * CHUNK_BYTES), 999), sealed_in(8, &plaintext(2 * CHUNK_BYTES), 999));
    let ((head, ours), (_, theirs)) = (taken_apart(&ours), taken_apart(&theirs));
    assert!(opened(&put_together(&head, &[&ours[0], &ours[1]])).is_some());
    assert_eq!(opened(&put_together(&head, &[&ours[0], &theirs[1]])), None);
    assert_eq!(opened(&put_together(&head, &[&theirs[0], &ours[1]])), None);
}

#[test]
fn refuses_an_empty_chunk_behind_a_full_one() {
    let (material, sealer) = (material(), begun(6));
    let head = *sealer.header().as_bytes();
    let (first, next) = sealer.seal(&material, &secret(&plaintext(CHUNK_BYTES))).unwrap();
    assert_eq!(next.seal_last(&material, &secret(b"")).err(), Some(NotSealed::Misshapen));
    // As somebody who holds the key and not our rules would make it.
    let header = StreamHeader::parse(&head).unwrap();
    let course = Course { number: 1, ..Course::begin(header, &material, &bound()) };
    let sealing = course.key(&material).unwrap();
    let empty = sealing.key.seal_in_place(&course.nonce(Place::Last), &course.aad.0, &mut []).to_vec();
    assert_eq!(opened(&put_together(&head, &[&first, &empty])), None);
}

#[test]
fn refuses_chunks_of_another_shape() {
    let material = material();
    for bytes in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES + 1] {
        assert_eq!(begun(6).seal(&material, &secret(&plaintext(bytes))).err(), Some(NotSealed::Misshapen));
    }
    let long = secret(&plaintext(CHUNK_BYTES + 1));
    assert_eq!(begun(6).seal_last(&material, &long).err(), Some(NotSealed::Misshapen));
}

#[test]
fn refuses_another_context_and_other_material() {
    let stream = sealed(CHUNK_BYTES + 1);
    assert!(opened_with(&material(), &bound(), &stream).is_some());
    for wrong in [Context::empty(), Context::new(&[("file", "b")]).unwrap()] {
        assert_eq!(opened_with(&material(), &wrong, &stream), None);
    }
    let c = context_of(3);
    for context in [
        context_of(4),
        MaterialContext { tenant: TenantTag([9; 16]), ..c },
        MaterialContext { key: KeyId([9; 16]), ..c },
        MaterialContext { material: MaterialId([9; 8]), ..c },
    ] {
        assert_eq!(opened_with(&Material::draw(context, Fresh::drawn([5; 32])), &bound(), &stream), None);
    }
    assert_eq!(opened_with(&Material::draw(c, Fresh::drawn([9; 32])), &bound(), &stream), None);
}

#[test]
fn refuses_another_version_in_the_middle() {
    let (ours, theirs) = (material(), Material::draw(context_of(4), Fresh::drawn([5; 32])));
    let chunk = || secret(&plaintext(CHUNK_BYTES));
    let (first, sealer) = begun(6).seal(&ours, &chunk()).unwrap();
    assert_eq!(sealer.seal_last(&theirs, &chunk()).err(), Some(NotSealed::OtherMaterial));
    let opener = StreamOpener::begin(&ours, &bound(), *begun(6).header()).ok().unwrap();
    assert!(opener.open(&theirs, &first).is_err());
}

#[test]
fn a_message_is_no_stream_and_a_stream_no_message() {
    let stream = sealed(9);
    assert_eq!(super::super::Ciphertext::parse(&stream).err(), Some(Malformed::Unknown));
    let fresh = (Fresh::drawn([6; 32]), Fresh::drawn([7; 12]));
    let message = super::super::encrypt(&material(), b"m", &bound(), fresh.0, fresh.1).unwrap();
    assert_eq!(StreamHeader::parse(&message[..HEAD]).err(), Some(Malformed::Unknown));
    let mut renamed = [stream, sealed(9)].map(|bytes| bytes[..HEAD].to_vec());
    renamed[0][5] = 1;
    assert_eq!(Suite::of(&renamed[0]), Some(Suite::Message));
    assert_eq!(Suite::of(&renamed[1]), Some(Suite::Stream));
    assert_eq!(Suite::of(b"CLAV\x01\x03\0\0"), None);
}

#[test]
fn refuses_headers_of_another_shape() {
    let head = begun(6).header().as_bytes().to_vec();
    assert!(StreamHeader::parse(&head).is_ok());
    assert_eq!(StreamHeader::parse(&head[..HEAD - 1]).err(), Some(Malformed::Short));
    assert_eq!(StreamHeader::parse(&[&head[..], &[0]].concat()).err(), Some(Malformed::Trailing));
    for at in 75..80 {
        let mut changed = head.clone();
        changed[at] = 1;
        assert_eq!(StreamHeader::parse(&changed).err(), Some(Malformed::Unknown), "byte {at}");
    }
}

#[test]
fn the_highest_chunk_is_a_last_one() {
    let material = material();
    let full = || secret(&plaintext(CHUNK_BYTES));
    let at = |number| StreamSealer(Course { number, ..begun(6).0 });
    let (_, last) = at(u32::MAX - 1).seal(&material, &full()).unwrap();
    let sealed = last.seal_last(&material, &full()).unwrap();
    assert_eq!(at(u32::MAX).seal(&material, &full()).err(), Some(NotSealed::TooLong));
    let opener = |number| {
        let begun = StreamOpener::begin(&material, &bound(), *begun(6).header()).ok().unwrap();
        StreamOpener(Course { number, ..begun.0 })
    };
    assert!(opener(u32::MAX).open_last(&material, &sealed).is_ok());
    let middle = at(u32::MAX).chunk(&material, &full(), Place::Middle).unwrap();
    assert!(opener(u32::MAX).open(&material, &middle).is_err(), "there is no number for what would follow");
}
