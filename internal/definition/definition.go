// Package definition is what all definitions in an engine's store have in common: a value is
// JSON whose member "v" is the version of its kind.
package definition

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Version is the version of a kind that has no later one.
const Version = 1

// Encode prints a value, a struct of strings, numbers and bytes.
func Encode(v any) []byte {
	value, err := json.Marshal(v)
	if err != nil {
		panic("definition: internal error: " + err.Error()) // such structs cannot fail
	}
	return value
}

// Decode reads the value of a definition into v, which has the member "v". It refuses any
// other version and any unknown member: a definition that is understood by half, a grant
// above all, would be worse than none.
func Decode(key string, value []byte, v any) error { return DecodeUpTo(Version, key, value, v) }

// DecodeUpTo is Decode for a kind that has later versions.
func DecodeUpTo(newest int, key string, value []byte, v any) error {
	var head struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(value, &head); err != nil {
		return Damaged(key, err.Error())
	}
	switch {
	case head.Version > newest:
		return fmt.Errorf("definition %q has version %d, this program reads up to %d: it was written by a newer one", key, head.Version, newest)
	case head.Version < 1:
		return Damaged(key, "it has no version")
	}
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return Damaged(key, err.Error())
	}
	return nil
}

// Damaged says that a definition is not what any version has written.
func Damaged(key, why string) error { return fmt.Errorf("definition %q is damaged: %s", key, why) }
