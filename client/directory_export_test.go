package client

import (
	"encoding/json"

	"github.com/sealmq/sealmq/internal/keylog"
	"github.com/sealmq/sealmq/seal"
)

// ReadFound takes an answer to find_key as far as it can be taken without a log. It returns
// nil for what Find would go on to prove.
func ReadFound(answer []byte, name string, suite seal.Suite) error {
	var f keylog.Found
	if err := json.Unmarshal(answer, &f); err != nil {
		return err
	}
	r := &record{name: name, asked: suite}
	if f.Proven {
		return r.readEntry(f)
	}
	return r.readBare(f)
}

// SetFirstLook bounds the log that is read when a key is seen for the first time.
func (d *Directory) SetFirstLook(n int64) { d.firstLook = n }
