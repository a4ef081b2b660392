package local

import (
	"container/heap"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/journal"
)

// meta is the file "store.json": what a store is born with.
type meta struct {
	storeID [16]byte
	hashKey hashKey
}

const (
	metaName   = "store.json"
	metaFormat = 1
	journalDir = "journal"
)

type metaFile struct {
	Format  int    `json:"format"`
	StoreID string `json:"store_id"`
	HashKey string `json:"hash_key"`
	CRC32C  string `json:"crc32c"` // of the other members, in their order
}

func (f metaFile) sum() string {
	return fmt.Sprintf("%08x", crc32.Checksum(fmt.Appendf(nil, "%d %s %s", f.Format, f.StoreID, f.HashKey), castagnoli))
}

// loadMeta reads the store's identity, or makes one for an empty folder.
func loadMeta(fsys durable.FS, name string, create bool) (m meta, err error) {
	b, err := readFile(fsys, name)
	if durable.IsNotExist(err) && create {
		return createMeta(fsys, name)
	}
	if err != nil {
		return m, fmt.Errorf("read store identity: %w", err)
	}
	var f metaFile
	if err := json.Unmarshal(b, &f); err != nil {
		return m, damaged(name, err.Error())
	}
	if f.Format > metaFormat {
		return m, fmt.Errorf("store identity %s: format %d: %w", name, f.Format, journal.ErrNewer)
	}
	id, err1 := hex.DecodeString(f.StoreID)
	key, err2 := hex.DecodeString(f.HashKey)
	if err1 != nil || err2 != nil || len(id) != 16 || len(key) != 16 || f.sum() != f.CRC32C {
		return m, damaged(name, "its checksum does not match")
	}
	copy(m.storeID[:], id)
	m.hashKey = hashKey{binary.LittleEndian.Uint64(key), binary.LittleEndian.Uint64(key[8:])}
	return m, nil
}

func createMeta(fsys durable.FS, name string) (m meta, err error) {
	var key [16]byte
	rand.Read(m.storeID[:])
	rand.Read(key[:])
	m.hashKey = hashKey{binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:])}
	f := metaFile{Format: metaFormat, StoreID: hex.EncodeToString(m.storeID[:]), HashKey: hex.EncodeToString(key[:])}
	f.CRC32C = f.sum()
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return m, err
	}
	return m, durable.WriteFile(fsys, name, append(b, '\n'), 0o600)
}

// A recovery holds what only Open needs.
type recovery struct {
	e      *Engine
	cp     *checkpoint
	states map[uint32]*queueState
	gens   map[uint64]bool // segments that exist
	index  []uint64        // index files that exist
	defs   []uint64        // definitions files that exist
	buf    []byte          // that index files are read into
	// Queue ids below known are in the definitions file or were deleted before it;
	// declared are those of later records.
	known    uint32
	declared map[uint32]bool
	found    map[uint32]int  // by queue: copies that live according to the checkpoint
	nameless map[uint32]bool // queues whose names are lost
	aside    []uint64        // index files that are damaged and of no use any more
}

// recover brings the engine to the state of the last synced record.
func (e *Engine) recover() error {
	var err error
	if err := e.refuseLostMeta(); err != nil {
		return err
	}
	if e.meta, err = loadMeta(e.cfg.FS, e.storeDir(metaName), true); err != nil {
		return err
	}
	e.dedup = newDedup(e.meta.hashKey)
	r := &recovery{e: e, cp: &checkpoint{}, states: map[uint32]*queueState{}, gens: map[uint64]bool{},
		declared: map[uint32]bool{}, found: map[uint32]int{}, nameless: map[uint32]bool{}}
	if err := r.listFiles(); err != nil {
		return err
	}
	if err := r.loadCheckpoint(); err != nil {
		return err
	}
	r.known = e.nextID
	e.j, err = journal.Open(journal.Config{
		Dir: e.storeDir(journalDir), FS: e.cfg.FS, StoreID: e.meta.storeID, SegmentBytes: e.cfg.SegmentBytes, CacheBytes: e.cfg.CacheBytes,
		MaxPendingBytes: e.cfg.MaxPendingBytes, MinFreeBytes: e.cfg.MinFreeBytes, Quarantine: e.cfg.Quarantine,
		Sealed: e.sealed, Committed: e.cfg.Committed, Clock: e.cfg.Clock, Log: e.log,
	})
	if err != nil {
		return r.explain(err)
	}
	if err = r.load(); err != nil {
		return errors.Join(r.explain(err), e.j.Close())
	}
	return nil
}

func (r *recovery) load() error {
	e := r.e
	if err := r.loadIndexes(e.j.Generations()); err != nil {
		return err
	}
	for rec, err := range e.j.Replay(r.cp.at, r.cp.seq) {
		if err == nil {
			err = r.apply(rec)
		}
		if err != nil {
			return err
		}
	}
	var err error
	if e.report, err = e.j.Begin(); err != nil {
		return err
	}
	if err := r.finish(); err != nil {
		return err
	}
	return r.forgetDamage()
}

// forgetDamage takes a checkpoint without what was found damaged, so that the next
// start does not meet it again.
func (r *recovery) forgetDamage() error {
	if r.e.damaged.Load() == 0 {
		return nil
	}
	r.e.defsChanged = true
	if at, err := r.e.takeCheckpoint(); at == 0 {
		return fmt.Errorf("checkpoint: %w", err)
	}
	for _, gen := range r.aside {
		name := indexName(gen)
		if err := r.e.cfg.FS.Rename(r.e.storeDir(name), r.e.storeDir("damaged-"+name+".bin")); err != nil {
			return fmt.Errorf("put damaged index file aside: %w", err)
		}
	}
	return nil
}

// refuse turns damage into an error, or into a log line and a count with Quarantine.
func (r *recovery) refuse(file, format string, args ...any) error {
	reason := fmt.Sprintf(format, args...)
	if !r.e.cfg.Quarantine {
		return damaged(file, reason)
	}
	r.e.damaged.Add(1)
	r.e.log.Error("store is damaged", "file", file, "reason", reason)
	return nil
}

// damaged is an error about a whole file.
func damaged(file, reason string) error {
	return &journal.DamageError{Damage: []*journal.Damage{{File: file, Promised: true, Reason: reason}}}
}

// explain names the checkpoint where its loss can be why the journal looks damaged: then
// segments were released that only it said were done with.
func (r *recovery) explain(err error) error {
	var damage *journal.DamageError
	if errors.As(err, &damage) && r.cp.at == 0 && len(r.defs)+len(r.index) > 0 {
		return fmt.Errorf("%s is missing, which may be all: %w", r.e.storeDir(checkpointName), err)
	}
	return err
}

func (r *recovery) loadCheckpoint() error {
	e := r.e
	name := e.storeDir(checkpointName)
	b, err := readFile(e.cfg.FS, name)
	if durable.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read checkpoint: %w", err)
	}
	cp, err := decodeCheckpoint(b, e.meta.storeID)
	if errors.Is(err, journal.ErrNewer) {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err != nil {
		// Without it everything that still is in the journal is replayed.
		if err := r.refuse(name, "%v; messages that were settled may come again", err); err != nil {
			return err
		}
		return r.salvageDefinitions()
	}
	defs := e.storeDir(definitionsName(cp.definitions))
	if cp.definitions != 0 {
		b, err = readFile(e.cfg.FS, defs)
		if err != nil && !durable.IsNotExist(err) {
			return fmt.Errorf("read definitions: %w", err)
		}
		if err == nil {
			err = e.decodeDefinitionsFile(b)
		}
		if errors.Is(err, journal.ErrNewer) {
			return fmt.Errorf("%s: %w", defs, err)
		}
		if err != nil {
			if err := r.refuse(defs, "%v; queues and definitions are lost", err); err != nil {
				return err
			}
			if err := r.salvageDefinitions(); err != nil {
				return err
			}
			r.salvageQueues(cp)
		}
	}
	r.cp = cp
	e.checkpointAt, e.definitionsAt = cp.at, cp.definitions
	for i := range cp.queues {
		s := &cp.queues[i]
		r.states[s.id] = s
		if q := e.byID[s.id]; q != nil {
			q.next = s.next
		}
	}
	e.defsChanged = false
	return nil
}

// salvageDefinitions reads the newest definitions file that can be read. A file that is
// older than the checkpoint is better than none.
func (r *recovery) salvageDefinitions() error {
	e := r.e
	for i := len(r.defs) - 1; i >= 0; i-- {
		b, err := readFile(e.cfg.FS, e.storeDir(definitionsName(r.defs[i])))
		if err == nil {
			e.queues, e.byID, e.defs, e.nextID = map[string]*queue{}, map[uint32]*queue{}, map[string][]byte{}, 1
			err = e.decodeDefinitionsFile(b)
		}
		if err == nil {
			e.defsChanged = true
			return nil
		}
		if errors.Is(err, journal.ErrNewer) {
			return fmt.Errorf("%s: %w", definitionsName(r.defs[i]), err)
		}
	}
	return nil
}

// salvageQueues makes the queues those of the checkpoint when their definitions are
// lost. A queue whose name is lost, too, gets one that tells so.
func (r *recovery) salvageQueues(cp *checkpoint) {
	e := r.e
	there := map[uint32]bool{}
	for i := range cp.queues {
		id := cp.queues[i].id
		there[id] = true
		if e.byID[id] == nil {
			r.nameless[id] = true
			e.addQueue(newQueue(id, fmt.Sprintf("recovered-%d", id), sealmq.QueueOptions{}.Normalize()))
		}
	}
	for id, q := range e.byID {
		if !there[id] { // deleted since
			delete(e.byID, id)
			delete(e.queues, q.name)
		}
	}
}

// refuseLostMeta keeps a store without its identity from becoming a new one.
func (e *Engine) refuseLostMeta() error {
	if _, err := readFile(e.cfg.FS, e.storeDir(metaName)); err == nil || !durable.IsNotExist(err) {
		return nil
	}
	names, err := e.cfg.FS.ReadDir(e.storeDir(journalDir))
	if err != nil || len(names) == 0 {
		return nil
	}
	return damaged(e.storeDir(metaName), "it is missing although there is a journal")
}

// listFiles notes index files and definitions files.
func (r *recovery) listFiles() error {
	names, err := r.e.cfg.FS.ReadDir(r.e.cfg.Dir)
	if err != nil {
		return fmt.Errorf("read store folder: %w", err)
	}
	for _, name := range names {
		if gen, ok := indexGeneration(name); ok {
			r.index = append(r.index, gen)
		}
		if n, ok := definitionsNumber(name); ok {
			r.defs = append(r.defs, n)
		}
	}
	slices.Sort(r.defs)
	return nil
}

// loadIndexes loads what came before the checkpoint.
func (r *recovery) loadIndexes(gens []uint64) error {
	if r.cp.at == 0 && len(gens) > 0 && gens[0] != 1 && len(r.defs)+len(r.index) > 0 {
		// Segments were released, which happens only after a checkpoint.
		if err := r.refuse(r.e.storeDir(checkpointName), "it is missing; messages that were settled may come again"); err != nil {
			return err
		}
		if err := r.salvageDefinitions(); err != nil {
			return err
		}
		r.known = r.e.nextID
	}
	indexed := map[uint64]bool{}
	for _, gen := range r.index {
		indexed[gen] = true
	}
	for _, gen := range gens {
		r.gens[gen] = true
		if gen < r.cp.at.Generation() && !indexed[gen] {
			r.index = append(r.index, gen)
		}
	}
	slices.Sort(r.index)
	for _, gen := range r.index {
		if gen >= r.cp.at.Generation() {
			continue // of a checkpoint that was not completed: replayed and written again
		}
		if err := r.loadIndex(gen); err != nil {
			return err
		}
	}
	return nil
}

func (r *recovery) loadIndex(gen uint64) error {
	e := r.e
	entries, count, ids, err := e.readIndex(r.buf, gen)
	if cap(entries) > cap(r.buf) {
		r.buf = entries[:0]
	}
	switch {
	case err == nil:
		e.dedup.reserve(ids)
		u := e.use(gen)
		u.sealed, u.indexed, u.released = true, true, !r.gens[gen]
		u.count, u.ids = count, ids
		return decodeIndex(gen, entries, func(n *indexEntry) {
			r.add(n.pos, n.record, n.body, n.flags, n.arrived, n.id, n.hash, n.copies)
		})
	case errors.Is(err, journal.ErrNewer):
		return fmt.Errorf("%s: %w", indexName(gen), err)
	case !r.gens[gen] && !errors.Is(err, errIndex):
		return fmt.Errorf("read index file %s: %w", indexName(gen), err)
	case !r.gens[gen]:
		r.aside = append(r.aside, gen)
		return r.refuse(e.storeDir(indexName(gen)), "%v; repeated publishes of its messages are not recognised", err)
	}
	e.log.Warn("index file is missing or damaged, its segment is read instead", "file", indexName(gen), "err", err)
	e.use(gen).sealed = true
	for rec, err := range e.j.Scan(gen) {
		if err == nil && rec.Kind == kindMessage {
			err = r.message(rec)
		}
		var damage *journal.Damage
		if errors.As(err, &damage) {
			return r.refuse(damage.File, "%v", damage)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// apply applies one record of the journal's end.
func (r *recovery) apply(rec journal.Record) error {
	e := r.e
	if rec.Kind == kindMessage {
		return r.message(rec)
	}
	if rec.Pos < r.cp.at {
		return nil
	}
	switch rec.Kind {
	case kindSettle:
		return decodeSettle(rec.Payload, func(queue uint32, seq uint64) {
			if q := e.byID[queue]; q != nil && q.at(seq) != nil {
				e.forgetCopy(q, seq)
			}
		})
	case kindReturn:
		return decodeReturn(rec.Payload, func(queue uint32, seq uint64, m mark) {
			if q := e.byID[queue]; q != nil && q.at(seq) != nil {
				q.setMark(seq, m)
			}
		})
	case kindDeclare:
		d := decoder{b: rec.Payload}
		id, name, o := d.queue()
		if d.err == nil {
			r.declare(id, name, o)
		}
		return d.err
	case kindDelete:
		d := decoder{b: rec.Payload}
		if q := e.byID[uint32(d.uvarint())]; q != nil {
			e.detach(q)
			r.clear(q)
		}
		return d.err
	case kindDefine:
		defs, err := decodeDefinitions(rec.Payload)
		e.applyDefinitions(defs)
		return err
	}
	return fmt.Errorf("record of unknown kind %d at %v: %w", rec.Kind, rec.Pos, journal.ErrNewer)
}

// declare adds a queue, unless the definitions know better.
func (r *recovery) declare(id uint32, name string, o sealmq.QueueOptions) {
	e := r.e
	e.nextID = max(e.nextID, id+1)
	q := e.byID[id]
	switch {
	case q != nil && r.nameless[id] && e.queues[name] == nil:
		delete(e.queues, q.name)
		q.name, q.options = name, o
		e.queues[name] = q
	case q != nil:
	case id < r.known: // deleted before the definitions were written
	case e.queues[name] != nil: // the deletion of its namesake was lost: see hasLostQueue
	default:
		r.declared[id] = true
		q = newQueue(id, name, o)
		if s := r.states[id]; s != nil {
			q.next = s.next
		}
		e.addQueue(q)
	}
}

func (r *recovery) clear(q *queue) {
	for _, c := range q.chunks {
		for k := range c.entries {
			if n := &c.entries[k]; n.state != gone {
				if n.dedup != 0 {
					r.e.dedup.release(n.dedup-1, r.seconds())
				}
				r.e.use(n.pos().Generation()).live--
				r.e.copies--
			}
		}
	}
	q.chunks = nil
}

// message applies a message record and adds it to the index of its segment.
func (r *recovery) message(rec journal.Record) error {
	e := r.e
	m, err := decodeMessage(rec.Payload, nil)
	if err != nil {
		return fmt.Errorf("message at %v: %w", rec.Pos, err)
	}
	if r.hasLostQueue(m.copies) {
		e.log.Warn("a message was dropped that was never confirmed: the declaration of its queue is lost", "position", rec.Pos)
		return nil
	}
	var id uint64
	if m.flags&flagHash != 0 {
		id = e.dedup.key.id(m.id)
	}
	if m.flags&flagMoved != 0 && rec.Pos >= r.cp.at {
		if q := e.byID[m.fromQueue]; q != nil && q.at(m.fromSeq) != nil {
			// The id goes on living in the copy that is added next.
			if n := q.at(m.fromSeq); n.dedup != 0 {
				e.dedup.retain(n.dedup - 1)
				defer e.dedup.release(n.dedup-1, r.seconds())
			}
			e.forgetCopy(q, m.fromSeq)
		}
	}
	e.use(rec.Pos.Generation()).index(&m, journal.Place{Pos: rec.Pos, Bytes: rec.Bytes()}, id)
	r.add(rec.Pos, rec.Bytes(), len(m.body), m.flags, m.arrived, id, m.hash, m.copies)
	return nil
}

// hasLostQueue reports whether a message is for a queue whose declaration was lost with a
// torn batch. Then the message was not promised either, and what it settles or repeats must
// stay as it was. The ids of such queues are never given to other queues.
func (r *recovery) hasLostQueue(copies []copyRef) (lost bool) {
	e := r.e
	for _, c := range copies {
		if c.queue >= r.known && !r.declared[c.queue] && !e.neverDeclared[c.queue] {
			e.neverDeclared[c.queue] = true
			e.nextID = max(e.nextID, c.queue+1)
			e.defsChanged = true
		}
		lost = lost || e.neverDeclared[c.queue]
	}
	return lost
}

// add adds the copies of one message that live according to the checkpoint, or that
// came after it.
func (r *recovery) add(pos journal.Position, record, body int, flags byte, arrived int64, id uint64, hash contentHash, copies []copyRef) {
	e := r.e
	u := e.use(pos.Generation())
	u.add(len(copies), record)
	slot := noSlot
	hashed := flags&flagHash != 0
	for _, c := range copies {
		q := e.byID[c.queue]
		if q == nil || pos < r.cp.at && !r.lived(c) {
			u.live--
			continue
		}
		if n := q.at(c.seq); n != nil { // a survivor that was copied forward
			old := e.use(n.pos().Generation())
			if pos > n.pos() {
				old.live--
				q.bytes += int64(body) - int64(n.body)
				q.readyBytes += int64(body) - int64(n.body)
				n.body = uint32(body)
				n.setPlace(journal.Place{Pos: pos, Bytes: record})
			} else {
				u.live--
			}
			continue
		}
		if hashed {
			slot = e.dedup.revive(id, hash)
		}
		e.copies++
		q.put(c.seq, newEntry(journal.Place{Pos: pos, Bytes: record}, body, slot, arrived))
		q.next = max(q.next, c.seq+1)
		if r.lived(c) {
			r.found[c.queue]++
		}
	}
	if hashed && slot == noSlot {
		switch i := e.dedup.find(id); {
		case i == noSlot:
			e.dedup.add(id, hash, 0, r.seconds())
		case e.dedup.slot(i).settledAt != 0: // used again after it was forgotten
			e.dedup.slot(i).content = hash
		}
	}
}

func (r *recovery) lived(c copyRef) bool {
	s := r.states[c.queue]
	return s != nil && s.has(c.seq)
}

func (r *recovery) seconds() uint32 { return r.e.nowSeconds() }

// finish derives what is not stored and checks that everything that lives is there.
func (r *recovery) finish() error {
	e := r.e
	gens := e.j.Generations()
	exists := map[uint64]bool{}
	for _, gen := range gens {
		exists[gen] = true
		e.use(gen).sealed = gen != gens[len(gens)-1]
	}
	e.dedup.found = r.seconds()
	for _, u := range e.segs {
		if u.live == 0 {
			u.settledBy = e.dedup.settledTotal
		}
	}
	for _, q := range e.queues {
		q.visible = q.next
		if len(q.chunks) > 0 {
			q.head = q.chunks[0].base
		} else {
			q.head = q.next
		}
		if err := r.checkPlaces(q, exists); err != nil {
			return err
		}
		if err := r.checkFound(q); err != nil {
			return err
		}
		r.applyMarks(q)
	}
	for _, d := range append(append([]*journal.Damage(nil), e.report.Damage...), e.report.Dropped...) {
		level := e.log.Error
		if !d.Promised {
			level = e.log.Warn
		}
		level("journal was mended", "file", d.File, "offset", d.Pos.Offset(), "bytes", d.Bytes,
			"first_seq", d.FirstSeq, "last_seq", d.LastSeq, "promised", d.Promised, "reason", d.Reason)
	}
	for _, name := range e.report.Repaired {
		e.log.Warn("the header of a segment was rebuilt from its records", "file", name)
	}
	e.damaged.Add(uint64(len(e.report.Damage)))
	for _, n := range r.defs {
		if n != e.definitionsAt {
			e.stale = append(e.stale, definitionsName(n))
		}
		e.definitionsTop = max(e.definitionsTop, n)
	}
	return nil
}

// checkPlaces removes copies whose segment does not exist.
func (r *recovery) checkPlaces(q *queue, exists map[uint64]bool) error {
	lost := map[uint64][]uint64{}
	q.each(func(seq uint64, n *entry) bool {
		if gen := n.pos().Generation(); !exists[gen] {
			lost[gen] = append(lost[gen], seq)
		}
		return true
	})
	for gen, seqs := range lost {
		if err := r.refuse(r.e.storeDir(journalDir), "segment with generation %d is missing: %d messages of queue %q are lost", gen, len(seqs), q.name); err != nil {
			return err
		}
		for _, seq := range seqs {
			r.e.forgetCopy(q, seq)
			q.damaged++
		}
	}
	return nil
}

// checkFound compares what the checkpoint says was there with what was found.
func (r *recovery) checkFound(q *queue) error {
	s := r.states[q.id]
	if s == nil {
		return nil
	}
	missing := -r.found[q.id]
	for _, l := range s.live {
		missing += int(l.to - l.from)
	}
	if missing <= 0 {
		return nil
	}
	q.damaged += uint64(missing)
	return r.refuse(r.e.storeDir(journalDir), "%d messages of queue %q are in the checkpoint and in no segment", missing, q.name)
}

// applyMarks gives copies that came back their state.
func (r *recovery) applyMarks(q *queue) {
	e := r.e
	if s := r.states[q.id]; s != nil {
		for seq, m := range s.marks {
			if _, newer := q.marks[seq]; !newer && q.at(seq) != nil {
				q.setMark(seq, m)
			}
		}
	}
	for seq, m := range q.marks {
		n := q.at(seq)
		m.holder = 0
		q.marks[seq] = m
		switch {
		case m.reason != "":
			q.setState(n, dyingState)
			e.dying = append(e.dying, dying{q.id, seq})
		case m.until > e.nowMillis():
			q.setState(n, delayed)
			heap.Push(&q.due, due{m.until, seq})
		}
	}
}
