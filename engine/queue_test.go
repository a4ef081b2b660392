package engine_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// TestEveryOptionHasAField changes each option of a queue: the field of that option must
// notice it, and no other.
func TestEveryOptionHasAField(t *testing.T) {
	fields := []engine.Fields{engine.MaxMessages, engine.MaxBytes, engine.TTL, engine.DeliveryLimit,
		engine.AckTimeout, engine.Prefetch, engine.MaxLineBytes, engine.DropOldest, engine.Sealed, engine.Private}
	changed := sealmq.QueueOptions{MaxMessages: 7, MaxBytes: 7, TTL: 7 * time.Second, DeliveryLimit: 7,
		AckTimeout: 7 * time.Second, Prefetch: 7, MaxLineBytes: 7000, DropOldest: true, Sealed: "suite", Private: true, Owner: sealmq.Owner{ID: "alice"}}
	if n := reflect.TypeOf(changed).NumField() - 1; n != len(fields) { // the owner is no option
		t.Fatalf("%d options, %d fields", n, len(fields))
	}
	for i, field := range fields {
		var o sealmq.QueueOptions
		reflect.ValueOf(&o).Elem().Field(i).Set(reflect.ValueOf(changed).Field(i))
		if field.Match(o, sealmq.QueueOptions{}) || engine.AllFields.Match(o, sealmq.QueueOptions{}) {
			t.Errorf("%+v is not told from the defaults", o)
		}
		if !(engine.AllFields &^ field).Match(o, sealmq.QueueOptions{}) {
			t.Errorf("%+v differs in another field than %d", o, field)
		}
	}
}

func TestDefaultsAreFilledIn(t *testing.T) {
	if !engine.AllFields.Match(sealmq.QueueOptions{}, sealmq.QueueOptions{}.Normalize()) {
		t.Error("options without a value differ from their defaults")
	}
}
