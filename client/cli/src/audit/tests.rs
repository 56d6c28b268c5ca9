use super::*;
use claviger_core::crypto::SigningKey;
use claviger_core::name::NodeId;
use claviger_core::page::{BookWriter, OutcomeWord, Page, Position};
use claviger_core::secret::Secret32;
use claviger_core::time::UnixMs;

fn node_key(byte: u8) -> SigningKey {
    SigningKey::from_seed(Secret32::copy_from(&[byte; 32]).unwrap())
}

fn page() -> Page {
    Page::bare(NodeId(1), UnixMs(1), OutcomeWord::Ok)
}

/// A book of two files with two pages each, the second signed at its end.
fn book() -> (Vec<u8>, Vec<u8>) {
    let (mut one, mut two) = (Vec::new(), Vec::new());
    let mut writer = BookWriter::begin(Position::first(NodeId(1), None), &mut one);
    writer.append(&mut page(), &mut one);
    writer.append(&mut page(), &mut one);
    let mut writer = BookWriter::begin(*writer.position(), &mut two);
    writer.append(&mut page(), &mut two);
    writer.append(&mut page(), &mut two);
    writer.sign(&node_key(1), UnixMs(9), &mut two);
    (one, two)
}

#[test]
fn refuses_a_book_that_was_changed_and_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let told = |first: &[u8], second: &[u8], key: u8| {
        std::fs::write(&one, first).unwrap();
        std::fs::write(&two, second).unwrap();
        let key = Some(node_key(key).public().to_string());
        verify(&Verify { files: vec![one.clone(), two.clone()], key, cert: None, lineage: None }).map_err(|f| f.message)
    };
    let (first, second) = book();
    let good = told(&first, &second, 1).map_err(|e| panic!("{e}")).unwrap();
    assert_eq!((good.json["pages"].as_u64(), good.json["signed_head"]["number"].as_u64()), (Some(4), Some(4)));
    let mut flipped = second.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    assert!(told(&first, &flipped, 1).err().unwrap().contains("two: "));
    assert!(told(&second, &first, 1).is_err(), "swapped files");
    assert!(told(&first, &second, 2).is_err(), "another node's key");
    assert!(told(&first[..first.len() - 1], &second, 1).err().unwrap().contains("one: "));
    let torn = told(&first, &second[..second.len() - 1], 1).map_err(|e| panic!("{e}")).unwrap();
    assert_eq!(torn.json["torn"], true, "a torn tail is told, and is no tampering");
    assert!(told(&first, &second, 1).is_ok());
}
