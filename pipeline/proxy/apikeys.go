package proxy

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/mtls"
)

// Bounds of what identifies a client without a certificate.
const (
	maxAPIKeys         = 1000
	maxAPIKeyBytes     = 256
	maxAPIKeyFileBytes = 1 << 20
	apiKeyPrefix       = "smq_"
	apiKeyRandomBytes  = 32
	apiKeyIDBytes      = 4
	// lookAtAPIKeys is how late a change of the file is noticed.
	lookAtAPIKeys = 500 * time.Millisecond
)

// APIKey lets a client without a certificate in.
type APIKey struct {
	// ID is how operators call the key.
	ID       string `json:"id"`
	ClientID string `json:"client_id"`
	// Hash is sha256: and the SHA-256 of the key in hexadecimal. The key itself is kept
	// nowhere.
	Hash string `json:"hash"`
	// AllowedIPs are the networks that the key is good for; none means all.
	AllowedIPs []netip.Prefix `json:"allowed_ips,omitempty"`
	CreatedAt  time.Time      `json:"created_at,omitzero"`

	sum [sha256.Size]byte // of Hash, once it was checked
}

// NewAPIKey makes a key. secret is what the client sends in X-API-Key.
func NewAPIKey(clientID string, allowed []netip.Prefix, now time.Time) (k APIKey, secret string) {
	random := make([]byte, apiKeyRandomBytes)
	rand.Read(random)
	secret = apiKeyPrefix + base64.RawURLEncoding.EncodeToString(random)
	sum := sha256.Sum256([]byte(secret))
	digits := hex.EncodeToString(sum[:])
	return APIKey{ID: digits[:2*apiKeyIDBytes], ClientID: clientID, Hash: "sha256:" + digits, AllowedIPs: allowed, CreatedAt: now.UTC().Truncate(time.Second)}, secret
}

// storedAPIKeys is the content of the file.
type storedAPIKeys struct {
	Keys []APIKey `json:"keys"`
}

// ReadAPIKeys reads a file of keys. There are none if it does not exist.
func ReadAPIKeys(fs durable.FS, file string) ([]APIKey, error) {
	keys, _, err := readAPIKeys(fs, file)
	return keys, err
}

// ChangeAPIKeys changes a file of keys in one step.
func ChangeAPIKeys(fs durable.FS, file string, change func([]APIKey) ([]APIKey, error)) error {
	if err := durable.MkdirAll(fs, filepath.Dir(file), 0o700); err != nil {
		return err
	}
	list, err := ReadAPIKeys(fs, file)
	if err == nil {
		list, err = change(list)
	}
	if err == nil {
		err = checkAPIKeys(list)
	}
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(storedAPIKeys{list}, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(fs, file, append(data, '\n'), 0o600)
}

func readAPIKeys(fs durable.FS, file string) ([]APIKey, []byte, error) {
	data, err := durable.ReadPrivate(fs, file, maxAPIKeyFileBytes)
	if durable.IsNotExist(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	var stored storedAPIKeys
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&stored); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := checkAPIKeys(stored.Keys); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	return stored.Keys, data, nil
}

func checkAPIKeys(list []APIKey) error {
	if len(list) > maxAPIKeys {
		return fmt.Errorf("there are %d API keys, more than %d", len(list), maxAPIKeys)
	}
	for i := range list {
		k := &list[i]
		if k.ClientID == "" {
			return fmt.Errorf("API key %d has no client id", i+1)
		}
		if err := mtls.CheckCommonName(k.ClientID); err != nil {
			return fmt.Errorf("API key %d: its client id is not a name: %w", i+1, err)
		}
		digits, ok := strings.CutPrefix(k.Hash, "sha256:")
		sum, err := hex.DecodeString(digits)
		if !ok || err != nil || len(sum) != sha256.Size {
			return fmt.Errorf("the API key of %s is not sha256: and 64 hexadecimal digits; never write the key itself into the file", k.ClientID)
		}
		k.sum = [sha256.Size]byte(sum)
	}
	return nil
}

// apiKeys are the keys in a file, which is read again when it changes. If it cannot be used,
// the last good ones stay.
type apiKeys struct {
	fs   durable.FS
	file string
	log  *slog.Logger

	mu      sync.Mutex
	at      time.Time
	data    []byte
	keys    []APIKey
	lastErr string
	used    map[string]time.Time // by id: the use that was noted last

	unwritten map[string]time.Time // of used: what is not in the file yet
	wake      chan struct{}        // of size one: there is something unwritten
}

func openAPIKeys(fs durable.FS, file string, log *slog.Logger) (*apiKeys, error) {
	a := &apiKeys{fs: fs, file: file, log: log, used: make(map[string]time.Time), unwritten: make(map[string]time.Time), wake: make(chan struct{}, 1)}
	if file == "" {
		return a, nil
	}
	var err error
	a.keys, a.data, err = readAPIKeys(fs, file)
	return a, err
}

// current are the keys now.
func (a *apiKeys) current(now time.Time) []APIKey {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == "" || now.Sub(a.at) < lookAtAPIKeys && !now.Before(a.at) {
		return a.keys
	}
	a.at = now
	keys, data, err := readAPIKeys(a.fs, a.file)
	if err != nil {
		if text := err.Error(); text != a.lastErr {
			a.lastErr = text
			a.log.Error("the file of API keys cannot be used, the last good keys stay", "error", err)
		}
		return a.keys
	}
	a.lastErr = ""
	if !bytes.Equal(data, a.data) {
		a.keys, a.data = keys, data
		a.log.Info("API keys loaded", "file", a.file, "keys", len(keys))
	}
	return a.keys
}

// find is the entry of a key, if it is known and good for an address. It compares with every key, so
// that the time says nothing about them.
func (a *apiKeys) find(key string, addr netip.Addr, now time.Time) (found APIKey, ok bool) {
	sum := sha256.Sum256([]byte(key))
	for _, k := range a.current(now) {
		if subtle.ConstantTimeCompare(sum[:], k.sum[:]) == 1 && (len(k.AllowedIPs) == 0 || contains(k.AllowedIPs, addr)) {
			found, ok = k, true
		}
	}
	return found, ok
}

// keyed is the client whose API key a request shows.
func (p *Proxy) keyed(key string, addr netip.Addr) (httpkit.Caller, error) {
	now := p.cfg.Now()
	k, ok := p.apiKeys.find(key, addr, now)
	if !ok {
		return httpkit.Caller{}, httpkit.ErrNoIdentity
	}
	c, err := p.clientNamed(k.ClientID, httpkit.ByAPIKey, "")
	if err == nil {
		p.apiKeys.noteUse(k.ID, now)
	}
	return c, err
}
