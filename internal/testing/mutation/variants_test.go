package mutation

// The suites that variants must be caught by.
var (
	powerCut   = suite{pkg: "journal", test: "TestPowerCut"}
	failedSync = suite{pkg: "journal", test: "TestFailedSyncStopsTheJournal"}
	heldSync   = suite{pkg: "engine/local", test: "TestConformance/sync/nothing is answered before its sync"}
	restart    = suite{pkg: "journal", test: "TestWhatARestartFindsIsDurable"}
)

var store = []variant{
	// When a batch is answered.
	{
		name: "confirm before the sync", file: "journal/commit.go", caught: powerCut, quick: true,
		old: "\t\tkept := bytes.Clone(r.buf)\n",
		new: `		kept := bytes.Clone(r.buf)
		for _, f := range b.waiters {
			f(nil)
		}
		b.waiters = nil
`,
	},
	{
		name: "only the last segment of a batch is synced", file: "journal/commit.go", caught: powerCut,
		old: `		if err := r.seg.file.Sync(); err != nil {
			return r.seg.wrap("sync", err)
		}
`,
		new: `		if r == b.runs[len(b.runs)-1] {
			if err := r.seg.file.Sync(); err != nil {
				return r.seg.wrap("sync", err)
			}
		}
`,
	},
	{
		name: "a failed sync is tried again and believed", file: "journal/commit.go", caught: failedSync,
		old: "if err := r.seg.file.Sync(); err != nil {",
		new: "if err := r.seg.file.Sync(); err != nil && r.seg.file.Sync() != nil {",
	},
	{
		name: "a failed sync is not noticed", file: "journal/commit.go", caught: failedSync,
		old: "if err := r.seg.file.Sync(); err != nil {",
		new: "if err := error(nil); r.seg.file.Sync() != nil && err != nil {",
	},
	{
		name: "an ack is confirmed before its sync", file: "engine/local/settle.go", caught: heldSync,
		old: `	if err == nil && len(out.dead) == 0 {
		err = e.j.OnSync(func(err error) { done(unavailable(err)) })
	}
`,
		new: `	if err == nil && len(out.dead) == 0 {
		defer done(nil)
	}
`,
	},
	{
		name: "a repeat is confirmed before the first is synced", file: "engine/local/publish.go", caught: heldSync,
		old: "	err := e.j.OnSync(func(err error) { e.publishDone(p, err, done) })\n",
		new: `	if len(p.seen) == 0 {
		e.mu.Unlock()
		e.publishDone(p, nil, done)
		return
	}
	err := e.j.OnSync(func(err error) { e.publishDone(p, err, done) })
`,
	},
	{
		name: "consumers see a message before its sync", file: "engine/local/publish.go",
		caught: suite{pkg: "engine/local", test: "TestWhatIsWrittenIsNotDelivered"},
		old:    "		p.reach(q, q.next)\n		q.next++\n",
		new:    "		p.reach(q, q.next)\n		q.next++\n		q.visible = q.next\n",
	},

	// What a record is.
	{
		name: "the generation is not part of a record's checksum", file: "journal/record.go",
		caught: suite{pkg: "journal", test: "TestHarmedJournal/a page of another segment", long: true},
		old:    "	binary.LittleEndian.PutUint64(b[16:], generation)\n	return",
		new:    "	return",
	},
	{
		name: "marks do not say what was synced", file: "journal/commit.go",
		caught: suite{pkg: "journal", test: "TestHarmedJournal"},
		old:    "fillMark(r.buf, r.seg.sum, r.seq, r.seg.gen, j.synced)",
		new:    "fillMark(r.buf, r.seg.sum, r.seq, r.seg.gen, 0)",
	},
	{
		name: "marks say of a batch that it is synced before it is", file: "journal/commit.go",
		caught: suite{pkg: "journal", test: "TestEveryBitFlip/recycled false"},
		old:    "fillMark(r.buf, r.seg.sum, r.seq, r.seg.gen, j.synced)",
		new:    "fillMark(r.buf, r.seg.sum, r.seq, r.seg.gen, position(r.seg.gen, r.end()))",
	},
	{
		name: "a clean stop leaves the last batch without a mark", file: "journal/commit.go",
		caught: suite{pkg: "journal", test: "TestRecoveredTailIsMarked"},
		old:    "if j.unmarked && (stopping || quiet.Load()) {",
		new:    "if j.unmarked && quiet.Load() {",
	},

	// Files and folders.
	{
		name: "the folder of a new segment is not synced", file: "journal/segment.go", caught: powerCut,
		old: "	if err := fsys.SyncDir(dir); err != nil {\n		return nil, fmt.Errorf(\"sync folder %s: %w\", dir, err)\n	}\n",
		new: "",
	},
	{
		name: "the folder of a replaced file is not synced", file: "internal/durable/write.go",
		caught: suite{pkg: "engine/local", test: "TestCrashes/at every change"},
		old:    "return fs.SyncDir(filepath.Dir(path))",
		new:    "return nil",
	},
	{
		name: "a file is put in place before it is synced", file: "internal/durable/write.go",
		caught: suite{pkg: "internal/durable", test: "TestWriteFileErrors"},
		old:    "		err = f.Sync()\n",
		new:    "",
	},
	{
		name: "the folder of a new folder is not synced", file: "internal/durable/write.go",
		caught: suite{pkg: "internal/durable", test: "TestMkdirAllSurvives"},
		old:    "err := fs.SyncDir(parent)",
		new:    "var err error",
	},

	// Recovery.
	{
		name: "what was never promised is not written again", file: "journal/recover.go", caught: restart,
		old: "if _, err := s.file.WriteAt(buf, from); err != nil {",
		new: "if err := s.read(buf, from); err != nil {",
	},
	{
		name: "what recovery wrote is not synced", file: "journal/recover.go", caught: restart,
		old: "	for s := range touched {\n		if err := s.file.Sync(); err != nil {\n			return s.wrap(\"sync\", err)\n		}\n	}\n",
		new: "",
	},
	{
		name: "holes are not covered", file: "journal/recover.go",
		caught: suite{pkg: "journal", test: "TestHarmedJournal"},
		old:    "if _, err := s.file.WriteAt(cover, h.Pos.Offset()); err != nil {",
		new:    "if err := s.read(cover, h.Pos.Offset()); err != nil {",
	},
	{
		name: "message ids are not remembered by recovery", file: "engine/local/apply.go",
		caught: suite{pkg: "engine/local", test: "TestConformance/dedup/an id is remembered after crash"},
		old:    "hashed := n.flags&flagHash != 0",
		new:    "hashed := n.flags&flagHash != 0 && n.body < 0",
	},
	{
		name: "ids of settled messages are not remembered by recovery", file: "engine/local/apply.go",
		caught: suite{pkg: "engine/local", test: "TestIDsOutliveTheirSegments"}, quick: true,
		old: "			e.dedup.add(n.id, n.hash, 0, e.nowSeconds())\n",
		new: "",
	},
	{
		name: "acks are not replayed", file: "engine/local/apply.go",
		caught: suite{pkg: "engine/local", test: "TestConformance/durability/acked means gone after crash"},
		old:    "			if q := e.byID[queue]; q != nil && q.at(seq) != nil {\n				e.forgetCopy(q, seq)\n			}\n",
		new:    "",
	},

	// Checkpoints and the reuse of segments.
	{
		name: "a checkpoint does not wait for the journal", file: "engine/local/checkpoint.go",
		caught: suite{pkg: "engine/local", test: "TestCheckpointIsNotAheadOfTheJournal"},
		old:    "	if err := e.j.Sync(); err != nil {\n		return err\n	}\n	if err := e.files.writeCheckpoint",
		new:    "	if err := e.files.writeCheckpoint",
	},
	{
		name: "a segment is released before its acks are synced", file: "engine/local/reclaim.go",
		caught: suite{pkg: "engine/local", test: "TestSegmentsAreKeptUntilTheirAcksAreSynced"},
		old:    "	if err := e.j.Sync(); err != nil {\n		return err\n	}\n	for _, gen := range gens {",
		new:    "	for _, gen := range gens {",
	},
	{
		name: "a segment is released before a checkpoint is behind it", file: "engine/local/reclaim.go",
		caught: suite{pkg: "engine/local", test: "TestEveryOperationFails"},
		old:    "if u.sealed && u.live == 0 && u.indexed && gen < e.checkpointAt.Generation() && !u.released {",
		new:    "if u.sealed && u.live == 0 && !u.released {",
	},
	{
		name: "an index file is written without message ids", file: "engine/local/index.go",
		caught: suite{pkg: "engine/local", test: "TestBacklogSurvivesReopenAcrossManySegments"},
		old:    "		b = binary.LittleEndian.AppendUint64(b, id)\n",
		new:    "		b = binary.LittleEndian.AppendUint64(b, 0)\n",
	},
	{
		name: "a segment is released before its ids are in an index file", file: "engine/local/reclaim.go",
		caught: suite{pkg: "engine/local", test: "TestIDsOutliveAFullDisk"},
		old:    "if u.sealed && u.live == 0 && u.indexed && gen",
		new:    "if u.sealed && u.live == 0 && gen",
	},
	{
		name: "what cannot be read is given up", file: "engine/local/damage.go",
		caught: suite{pkg: "engine/local", test: "TestUnreadableMessageIsKept"},
		old:    "unread := isUnread(cause)",
		new:    "unread := isUnread(cause) && false",
	},
	{
		name: "damage found while running is met again by the next start", file: "engine/local/damage.go",
		caught: suite{pkg: "engine/local", test: "TestDamageFoundLaterIsKnown"},
		old:    "	return e.j.Seal(ctx, gen)\n",
		new:    "	_ = gen\n	return nil\n",
	},
	{
		name: "damaged bytes are written while a consumer waits", file: "engine/local/damage.go",
		caught: suite{pkg: "engine/local", test: "TestDamageOnAHungDisk"},
		old:    "		kept = damage == nil || e.keepAside(damage)\n",
		new:    "		_ = damage.SaveAside(e.cfg.FS)\n",
	},
	{
		name: "the first record after a sealed segment takes the place of its mark", file: "journal/room.go",
		caught: suite{pkg: "journal", test: "TestSealEndsTheSegment"},
		old:    "			j.off = j.run().end()\n",
		new:    "			j.run()\n",
	},
	{
		name: "a digest is hashed like a content", file: "engine/local/dedup.go",
		caught: suite{pkg: "engine/local", test: "TestDigestIsNoContent"},
		old:    "	scratch = append(scratch[:0], notContent...)\n",
		new:    "	scratch = scratch[:0]\n",
	},
	{
		name: "messages that only the checkpoint knows are not missed", file: "engine/local/salvage.go",
		caught: suite{pkg: "engine/local", test: "TestLostTailWithoutIndex"},
		old:    "	if missing <= 0 {",
		new:    "	if missing != -1 {",
	},
	{
		name: "a message for a queue that was never declared settles its source", file: "engine/local/apply.go",
		caught: suite{pkg: "engine/local", test: "TestMessageForALostQueueSettlesNothing"},
		old:    "	if r.hasLostQueue(m.copies) {",
		new:    "	if r.hasLostQueue(m.copies) && false {",
	},
}
