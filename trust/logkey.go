package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/mtls"
)

// maxLogKeyBytes bounds the file of a log key.
const maxLogKeyBytes = 1 << 20

// OpenLogSigner reads the key that signs the key directory's log, or makes it if there is
// no such file; made says so. Clients know a directory by this key.
func OpenLogSigner(file string) (signer *keylog.Signer, made bool, err error) {
	text, err := durable.ReadPrivate(durable.OS(), file, maxLogKeyBytes)
	if errors.Is(err, fs.ErrNotExist) {
		if err := durable.MkdirAll(durable.OS(), filepath.Dir(file), 0o700); err != nil {
			return nil, false, fmt.Errorf("make the folder of the key directory: %w", err)
		}
		if signer, text, err = keylog.NewSigner(); err != nil {
			return nil, false, err
		}
		return signer, true, durable.WriteFile(durable.OS(), file, text, 0o600)
	}
	if err != nil {
		return nil, false, err
	}
	if signer, err = keylog.ParseSigner(text); err != nil {
		return nil, false, &mtls.FileError{What: "signing key of the key directory", Path: file, Err: err}
	}
	return signer, false, nil
}
