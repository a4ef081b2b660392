package ciphermq_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

func TestParseRefuses(t *testing.T) {
	cases := map[string]string{
		"empty":                  ``,
		"not JSON":               `hello`,
		"array":                  `["message_id"]`,
		"string":                 `"message_id"`,
		"cut":                    `{"message_id": "a"`,
		"something behind":       `{"message_id": "a"} {}`,
		"no id":                  `{"nonce": "AA=="}`,
		"empty id":               `{"message_id": ""}`,
		"id with a space":        `{"message_id": "a b"}`,
		"id with a line feed":    `{"message_id": "a\nb"}`,
		"id is a number":         `{"message_id": 1}`,
		"id is null":             `{"message_id": null}`,
		"id twice":               `{"message_id": "a", "message_id": "a"}`,
		"id twice, escaped":      `{"message_id": "a", "m\u0065ssage_id": "b"}`,
		"nonce twice":            `{"message_id": "a", "nonce": "AA==", "nonce": "AA=="}`,
		"name in other case":     `{"Message_ID": "a"}`,
		"no padding":             `{"message_id": "a", "nonce": "AA"}`,
		"loose last bits":        `{"message_id": "a", "nonce": "AB=="}`,
		"line feed in base64":    `{"message_id": "a", "nonce": "AA=\n="}`,
		"URL alphabet":           `{"message_id": "a", "nonce": "__-_"}`,
		"nonce is an object":     `{"message_id": "a", "nonce": {"a": "AA=="}}`,
		"tag is null":            `{"message_id": "a", "tag": null}`,
		"ciphertext is a list":   `{"message_id": "a", "ciphertext": ["AA=="]}`,
		"bad JSON in a stranger": `{"message_id": "a", "x": tru}`,
	}
	for name, body := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := ciphermq.Parse([]byte(body)); !errors.Is(err, seal.ErrMalformed) {
				t.Errorf("%s: %v", body, err)
			}
		})
	}
}

func TestErrorsDoNotQuoteTheBody(t *testing.T) {
	for _, body := range []string{
		`{"message_id": "a", "x": secret}`,
		`secret`,
		`{"message_id": "a"} secret`,
		`{"message_id": "a", "nonce": "secret!"}`,
	} {
		_, err := ciphermq.Parse([]byte(body))
		if err == nil || bytes.Contains([]byte(err.Error()), []byte("secret")) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// FuzzOpen opens arbitrary bytes. Whatever opens must print again as an envelope that
// opens to the same.
func FuzzOpen(f *testing.F) {
	key, body := vector(f)
	f.Add(body)
	f.Fuzz(func(t *testing.T, data []byte) {
		env, err := ciphermq.Parse(data)
		if err != nil {
			if !errors.Is(err, seal.ErrMalformed) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		again, err := ciphermq.Parse(env.JSON())
		if err != nil {
			t.Fatalf("printed form does not parse: %v", err)
		}
		if d := cmp.Diff(env, again, cmp.Comparer(bytes.Equal)); d != "" {
			t.Fatal(d)
		}
		id, text, err := open(key, data)
		if err != nil {
			if text != nil {
				t.Fatal("text beside an error")
			}
			if !errors.Is(err, seal.ErrMalformed) && !errors.Is(err, seal.ErrWrongKey) && !errors.Is(err, seal.ErrChanged) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		id2, text2, err := open(key, env.JSON())
		if err != nil || id2 != id || !bytes.Equal(text, text2) {
			t.Fatalf("printed form opens to %q, %v", id2, err)
		}
	})
}
