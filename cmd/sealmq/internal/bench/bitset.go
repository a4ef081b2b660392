package bench

import (
	"sync/atomic"
)

// pageBits is how many numbers one page of a bitset holds.
const pageBits = 1 << 18

// maxPages limits a bitset to 2^32 messages of a publisher.
const maxPages = 1 << 14

// bitset is a growing set of numbers. It is safe for concurrent use.
type bitset struct {
	pages [maxPages]atomic.Pointer[[pageBits / 64]atomic.Uint64]
}

// set adds n and reports whether it was there before.
func (b *bitset) set(n uint64) (before bool) {
	slot := &b.pages[n/pageBits]
	page := slot.Load()
	if page == nil {
		slot.CompareAndSwap(nil, new([pageBits / 64]atomic.Uint64))
		page = slot.Load()
	}
	mask := uint64(1) << (n % 64)
	return page[n%pageBits/64].Or(mask)&mask != 0
}

// missing counts the numbers of b that are not in other, up to n.
func (b *bitset) missing(other *bitset, n uint64) (count uint64) {
	for i := uint64(0); i < n; i++ {
		if b.has(i) && !other.has(i) {
			count++
		}
	}
	return count
}

func (b *bitset) has(n uint64) bool {
	page := b.pages[n/pageBits].Load()
	return page != nil && page[n%pageBits/64].Load()&(1<<(n%64)) != 0
}
