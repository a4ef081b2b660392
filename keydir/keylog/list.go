package keylog

import (
	"cmp"
	"slices"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// MaxList bounds the clients of one List.
const MaxList = 200

// List describes the current keys of up to n clients, at most MaxList, from a name on: in the
// order of names and suites, those of one client together.
func (l *Log) List(by sealmq.Identity, from string, n int) ([]sealmq.KeyInfo, error) {
	if err := l.cfg.Allow(by, ReadKey, ""); err != nil {
		return nil, err
	}
	var records []*record
	l.mu.Lock()
	for at, s := range l.slots {
		if s.current != nil && at.owner >= from {
			records = append(records, s.current)
		}
	}
	l.mu.Unlock()
	slices.SortFunc(records, func(a, b *record) int {
		return cmp.Or(cmp.Compare(a.leaf.Owner, b.leaf.Owner), cmp.Compare(a.leaf.Suite, b.leaf.Suite))
	})
	list := []sealmq.KeyInfo{}
	clients := 0
	for _, r := range records {
		if len(list) == 0 || list[len(list)-1].Client != r.leaf.Owner {
			if clients++; clients > min(n, MaxList) {
				break
			}
		}
		list = append(list, r.describe())
	}
	return list, nil
}

func (r *record) describe() sealmq.KeyInfo {
	k := sealmq.KeyInfo{Client: r.leaf.Owner, Suite: r.leaf.Suite, Proven: r.leaf.Proven, Issuer: r.leaf.Issuer, Entry: r.leaf.Serial, Record: r.index}
	if !r.leaf.Proven {
		if key, err := seal.NewPublicKey(ciphermq.G5, r.data, ciphermq.Suites{}); err == nil {
			k.Fingerprint = key.Fingerprint()
		}
		k.Issuer = r.registrar
		return k
	}
	if e, err := seal.ParseKeyEntry(r.data, ciphermq.Suites{}); err == nil {
		k.Fingerprint, k.Since = e.PublicKey().Fingerprint(), e.Created.UTC()
	}
	return k
}
