package atrest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

const (
	v2          = "v2."
	v2Info      = "message-broker/body/v2"
	fernetTwice = "Z0FBQUFB" // base64 of fernetOnce
	fernetOnce  = "gAAAA"
)

// OpenOld decrypts a text that was made under a file key itself: form V2, or a Fernet token,
// in base64 once more or not. If the version has no key, or if it cannot read the text, the
// other versions are tried: the earlier implementation had no versions.
func (r *Ring) OpenOld(version uint16, messageID, client, text string) (string, error) {
	form, _ := Inspect(text)
	read := openFernet
	switch form {
	case V2:
		read = func(k Key, text string) ([]byte, error) { return openV2(k, messageID+"|"+client, text) }
	case Fernet:
	default:
		return "", ErrUnreadable
	}
	for _, v := range append([]uint16{version}, r.Versions()...) {
		if k, ok := r.keys[v]; ok {
			if plain, err := read(k, text); err == nil {
				return string(plain), nil
			}
		}
	}
	if _, known := r.keys[version]; !known {
		return "", &NoKeyError{Version: version}
	}
	return "", ErrUnreadable
}

func openV2(k Key, data, text string) ([]byte, error) {
	raw, err := decode(strings.TrimRight(text, "="), v2)
	if err != nil || len(raw) < 12+tagSize {
		return nil, ErrUnreadable
	}
	plain, err := gcm(k.derive(nil, v2Info)).Open(nil, raw[:12], raw[12:], []byte(data))
	if err != nil {
		return nil, ErrUnreadable
	}
	return plain, nil
}

// openFernet reads a Fernet token: version 0x80, time (8), IV (16), AES-128-CBC with PKCS#7
// padding, HMAC-SHA256 of all that. The first half of the key signs, the second encrypts.
// The time is not looked at.
func openFernet(k Key, text string) ([]byte, error) {
	if len(text) > MaxText {
		return nil, ErrUnreadable
	}
	if strings.HasPrefix(text, fernetTwice) {
		once, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
		if err != nil {
			return nil, ErrUnreadable
		}
		text = string(once)
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	const head, sum = 1 + 8 + aes.BlockSize, sha256.Size
	if err != nil || len(raw) < head+aes.BlockSize+sum || raw[0] != 0x80 {
		return nil, ErrUnreadable
	}
	signed, tag := raw[:len(raw)-sum], raw[len(raw)-sum:]
	mac := hmac.New(sha256.New, k.secret[:KeySize/2])
	mac.Write(signed)
	if !hmac.Equal(mac.Sum(nil), tag) {
		return nil, ErrUnreadable
	}
	plain := signed[head:]
	block, err := aes.NewCipher(k.secret[KeySize/2:])
	if err != nil || len(plain)%aes.BlockSize != 0 {
		return nil, ErrUnreadable
	}
	cipher.NewCBCDecrypter(block, signed[9:head]).CryptBlocks(plain, plain)
	last := plain[len(plain)-1:]
	pad := int(last[0])
	if pad == 0 || pad > aes.BlockSize || bytes.Count(plain[len(plain)-pad:], last) != pad {
		return nil, ErrUnreadable
	}
	return plain[:len(plain)-pad], nil
}
