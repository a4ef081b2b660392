package backup

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"time"

	"filippo.io/age"
)

// MinPassphrase is how long a passphrase must be.
const MinPassphrase = 12

// workFactor makes trying passphrases slow: half a second and 64 MiB for each.
const workFactor = 16

// ErrPassphrase says that a key backup cannot be opened with a passphrase.
var ErrPassphrase = errors.New("the passphrase is wrong, or the file is no key backup")

// Keys is what a key backup gets its files through.
type Keys struct {
	tar *tar.Writer
	at  time.Time
}

// Add adds a file.
func (k *Keys) Add(name string, content []byte) error {
	err := checkName(name)
	if err == nil {
		err = k.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content)), ModTime: k.at})
	}
	if err == nil {
		_, err = k.tar.Write(content)
	}
	return err
}

// writeKeys writes a key backup: a tar file, encrypted by age. age's own program opens it, too.
func writeKeys(w io.Writer, passphrase []byte, at time.Time, fill func(*Keys) error) error {
	if len(passphrase) < MinPassphrase {
		return fmt.Errorf("the passphrase of the key backup must have %d characters or more", MinPassphrase)
	}
	r, err := age.NewScryptRecipient(string(passphrase))
	if err != nil {
		return err
	}
	r.SetWorkFactor(workFactor)
	sealed, err := age.Encrypt(w, r)
	if err != nil {
		return err
	}
	k := &Keys{tar: tar.NewWriter(sealed), at: at}
	if err := fill(k); err != nil {
		return err
	}
	return errors.Join(k.tar.Close(), sealed.Close())
}

// ReadKeys calls f with each file of a key backup. What f got is authentic, but f may not have
// got all of it if there is an error.
func ReadKeys(r io.Reader, passphrase []byte, f func(name string, content io.Reader) error) error {
	id, err := age.NewScryptIdentity(string(passphrase))
	if err != nil {
		return ErrPassphrase
	}
	id.SetMaxWorkFactor(20)
	plain, err := age.Decrypt(r, id)
	if err != nil {
		return ErrPassphrase
	}
	files := tar.NewReader(plain)
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("the key backup is damaged: %w", err)
		}
		if err := checkName(h.Name); err != nil || h.Typeflag != tar.TypeReg {
			return errors.Join(err, errors.New("the key backup has something that is no file"))
		}
		if err := f(h.Name, files); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, plain); err != nil { // the end is authenticated, too
		return fmt.Errorf("the key backup is damaged: %w", err)
	}
	return nil
}
