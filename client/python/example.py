#!/usr/bin/env python3
"""Uses a key with plain grpcio, over mutual TLS: `. dev/env-app`, then `example.py KEY-NAME` encrypts and decrypts.

`example.py --create KEY-NAME` makes the key, which only an administrator may: `. dev/env`. The environment is that of
`claviger`: CLAVIGER_ADDR (the first address is asked), CLAVIGER_CA, CLAVIGER_CERT, CLAVIGER_KEY_FILE. What the example
needs stands in client/README.md.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import grpc

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto" / "proto"
# How long one call may take, in seconds. A call without a deadline may wait for ever.
CALL_SECONDS = 5


def generate(folder):
    """Makes Python of proto/ with what is there: the system's protoc with its plugin, or grpcio-tools from PyPI."""
    files = sorted(str(path) for path in (PROTO / "claviger" / "v1").glob("*.proto"))
    out = [f"-I{PROTO}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    plugin = shutil.which("grpc_python_plugin")
    if plugin and shutil.which("protoc"):
        command = ["protoc", f"--plugin=protoc-gen-grpc_python={plugin}"]
    else:
        command = [sys.executable, "-m", "grpc_tools.protoc"]
    subprocess.run(command + out + files, check=True)
    sys.path.insert(0, folder)


def connect(address):
    """A channel on which both sides prove who they are. TLS asks who they are once, each call whether they may."""

    def read(variable):
        return pathlib.Path(os.environ[variable]).read_bytes()

    proof = grpc.ssl_channel_credentials(read("CLAVIGER_CA"), read("CLAVIGER_KEY_FILE"), read("CLAVIGER_CERT"))
    return grpc.secure_channel(address, proof)


class Caller:
    """Carries the newest revision that any answer had, so that time never goes back, whichever node answers next."""

    def __init__(self, channel):
        # Made from proto/ just now: nothing to import before.
        from claviger.v1 import common_pb2, crypto_pb2, crypto_pb2_grpc, keys_pb2, keys_pb2_grpc

        self.crypto, self.keys = crypto_pb2_grpc.CryptoStub(channel), keys_pb2_grpc.KeysStub(channel)
        self.words, self.key_words, self.common = crypto_pb2, keys_pb2, common_pb2
        self.revision = 0

    def read(self):
        return self.common.ReadOptions(min_revision=self.revision)

    def context(self, pairs):
        return [self.common.ContextPair(name=name, value=value) for name, value in pairs.items()]

    def saw(self, answer):
        self.revision = max(self.revision, answer.revision)
        return answer

    def create(self, name, request_id):
        ask = self.key_words.CreateKeyRequest(name=name, request_id=request_id)
        return self.saw(self.keys.CreateKey(ask, timeout=CALL_SECONDS))

    def encrypt(self, name, plaintext, context):
        ask = self.words.EncryptRequest(name=name, plaintext=plaintext, context=self.context(context), read=self.read())
        return self.saw(self.crypto.Encrypt(ask, timeout=CALL_SECONDS))

    def decrypt(self, name, ciphertext, context):
        ask = self.words.DecryptRequest(
            name=name, ciphertext=ciphertext, context=self.context(context), read=self.read()
        )
        return self.saw(self.crypto.Decrypt(ask, timeout=CALL_SECONDS))


def make_once(caller, name):
    """One logical call, one request id: asked again, after whatever failure, it happens once."""
    request_id = os.urandom(16)
    first = caller.create(name, request_id)
    again = caller.create(name, request_id)
    assert first.revision == again.revision, "made twice"
    print(f"made {name} once, at revision {first.revision}")


def there_and_back(caller, name):
    """Encrypts, decrypts, and tries it without the context that the ciphertext is bound to."""
    context = {"purpose": "example"}
    sealed = caller.encrypt(name, b"in confidence", context)
    print(f"{len(sealed.ciphertext)} bytes under version {sealed.version}, at revision {sealed.revision}")
    opened = caller.decrypt(name, sealed.ciphertext, context)
    print(f"opened: {opened.plaintext.decode()}")
    try:
        caller.decrypt(name, sealed.ciphertext, {})
        sys.exit("another context opened it")
    except grpc.RpcError as refused:
        # What may be repeated is UNAVAILABLE, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED; this is the caller's to mend.
        print(f"without its context: {refused.code().name}")
    print(f"the newest revision seen: {caller.revision}")


def main(do, name):
    with tempfile.TemporaryDirectory() as folder:
        generate(folder)
        with connect(os.environ["CLAVIGER_ADDR"].split(",")[0]) as channel:
            do(Caller(channel), name)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--create", name]:
            main(make_once, name)
        case [name]:
            main(there_and_back, name)
        case _:
            sys.exit(__doc__)
