package protocol

import "crypto/sha256"

// TypeText names a key type with its article, for sentences.
func TypeText(t KeyType) string {
	switch t {
	case TypeRSA:
		return "an RSA key"
	case TypeEC:
		return "an EC key"
	case TypeAES:
		return "an AES key"
	case TypeGeneric:
		return "a generic secret"
	}
	return "a key of another type"
}

// sha256Prefix is the DER of a DigestInfo for SHA-256 up to the digest (RFC 8017, 9.2).
var sha256Prefix = [...]byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}

// DigestInfo is what MechRSAPKCS signs for a SHA-256 digest.
func DigestInfo(digest []byte) []byte {
	b := make([]byte, 0, len(sha256Prefix)+sha256.Size)
	return append(append(b, sha256Prefix[:]...), digest...)
}
