package trust

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/sealmq/sealmq/mtls"
)

// ReadIdentifier returns an Identifier that believes the roles in certificates of our own
// authority, whose root is in a file. If there is no such file, there is no authority of
// our own, and no certificate makes an administrator.
func ReadIdentifier(rootFile string, r mtls.Revocation) (*mtls.Identifier, error) {
	roots, err := mtls.ReadAuthorities(rootFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read our authority: %w", err)
	}
	i := mtls.NewIdentifier(roots...)
	i.Revocation = r
	return i, nil
}
