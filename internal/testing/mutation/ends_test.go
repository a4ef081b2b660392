package mutation

// The suites of the two ends of the way: what sender and receiver must neither lose nor double.
var (
	spoolFaults  = suite{pkg: "send", test: "TestSpoolSurvivesEveryFault"}
	spoolKeeps   = suite{pkg: "send", test: "TestSpoolKeepsWhatIsNotConfirmed"}
	spoolDamaged = suite{pkg: "send", test: "TestDamagedSpoolIsRefused"}
	ledgerFaults = suite{pkg: "receive", test: "TestLedgerSurvivesEveryFault"}
	ledgerTold   = suite{pkg: "receive", test: "TestLedgerRemembersOverARestart"}
	ledgerBounds = suite{pkg: "receive", test: "TestLedgerCallsNewWhatItCannotHaveDropped"}
	replayForgot = suite{pkg: "receive", test: "TestReplayForgetsAndSaysSo"}
)

var ends = []variant{
	// The file under spool and ledger.
	{
		name: "a checksum of spool or ledger is not looked at", file: "internal/framelog/framelog.go", caught: spoolDamaged,
		old: "	if frameSum(offset, frame) != binary.BigEndian.Uint32(frame[4:]) {\n",
		new: "	if len(frame) == 0 {\n",
	},
	{
		name: "damage in a spool is taken for a torn end", file: "internal/framelog/framelog.go", caught: suite{pkg: "receive", test: "TestDamagedLedgerIsRefusedAndKept"},
		old: "payload != nil && synced > bad {",
		new: "payload != nil && synced > bad && bad < 0 {",
	},
	{
		name: "the folder of a new spool file is not synced", file: "internal/framelog/framelog.go", caught: spoolFaults,
		old: "	if err = l.Commit(); err == nil {\n		err = fs.SyncDir(filepath.Dir(name))\n	}\n",
		new: "	err = l.Commit()\n",
	},
	{
		name: "what a killed process left in memory is believed", file: "internal/framelog/framelog.go",
		caught: suite{pkg: "send", test: "TestWhatAStartHasReadIsDurable"},
		old:    "	if err == nil {\n		err = l.file.Sync()\n	}\n",
		new:    "",
	},
	{
		name: "a failed sync of spool or ledger is not noticed", file: "internal/framelog/framelog.go", caught: spoolFaults,
		old: "	if err := l.file.Sync(); err != nil {\n",
		new: "	if err := error(nil); l.file.Sync() != nil && err != nil {\n",
	},

	// The sender.
	{
		name: "a message leaves before the spool is synced", file: "send/spool.go", caught: spoolFaults, quick: true,
		old: "	err = file.Commit()\n	s.mu.Lock()\n",
		new: "	err = file.Write()\n	s.mu.Lock()\n",
	},
	{
		name: "a spool file is removed while a message in it is not confirmed", file: "send/spool.go", caught: spoolKeeps,
		old: "len(s.files) > 1 && s.files[0].left == 0 {",
		new: "len(s.files) > 1 && s.files[0].left <= 1 {",
	},
	{
		name: "what the spool notes as confirmed is not written", file: "send/spool.go", caught: spoolKeeps,
		old: "			s.marks = addSpan(s.marks, seq)\n",
		new: "			_ = addSpan(s.marks, seq)\n",
	},
	{
		name: "a full spool file is not synced before the next one begins", file: "send/spool.go", caught: spoolFaults,
		old: "		if err := file.Commit(); err != nil {\n			return err\n		}\n		if err := s.begin",
		new: "		if err := file.Write(); err != nil {\n			return err\n		}\n		if err := s.begin",
	},
	{
		name: "a refused message is taken out of the spool", file: "send/sender_publish.go",
		caught: suite{pkg: "receive", test: "TestRefusedMessagesStayInTheSpool"},
		old:    "	if err == nil && s.cfg.Spool != nil {\n		s.cfg.Spool.Settle(x.Seq)",
		new:    "	if s.cfg.Spool != nil {\n		s.cfg.Spool.Settle(x.Seq)",
	},
	{
		name: "what is sent again is another message", file: "send/sender_publish.go",
		caught: suite{pkg: "receive", test: "TestAllDieAtOnce"},
		old:    "			batch = append(batch, &sending{SpoolEntry: e, order: e.Seq, replayed: true})\n",
		new:    "			e.Body = append([]byte(`{\"again\":true,`), e.Body[1:]...)\n			batch = append(batch, &sending{SpoolEntry: e, order: e.Seq, replayed: true})\n",
	},
	{
		name: "how old a spool is does not matter", file: "send/spool_age.go",
		caught: suite{pkg: "send", test: "TestSpoolAsksWhenItIsTooOld"},
		old:    "	return age > s.horizon || age",
		new:    "	return age",
	},
	{
		name: "what the broker remembers does not matter", file: "client/memory.go",
		caught: suite{pkg: "send", test: "TestSpoolAsksByTheBrokersMemory"},
		old:    "	case broker == 0:\n		return cmp.Or(limit, DefaultHorizon)\n",
		new:    "	default:\n		return cmp.Or(limit, DefaultHorizon)\n",
	},
	{
		name: "old messages are sent again to a broker that is back", file: "client/conn.go",
		caught: suite{pkg: "send", test: "TestOldMessagesAreNotPublishedWhenTheBrokerIsBack"},
		old:    "e.kind != kindPublish || c.mayLeave(e, now) }",
		new:    "e.kind != kindPublish || c.mayLeave(e, now) || true }",
	},

	// The ledger.
	{
		name: "a message is acknowledged before the ledger has it", file: "receive/receiver.go",
		caught: suite{pkg: "receive", test: "TestNothingIsAcknowledgedBeforeTheLedger"},
		old:    "	if err := r.cfg.Ledger.commit(",
		new:    "	if err := r.sub.Ack(acks...); err != nil {\n		return err\n	}\n	if err := r.cfg.Ledger.commit(",
	},
	{
		name: "a commit of the ledger is not synced", file: "receive/ledger.go", caught: ledgerFaults,
		old: "l.err = l.log.Commit(); l.err",
		new: "l.err = l.log.Write(); l.err",
	},
	{
		name: "a commit does not say how long the output is", file: "receive/ledger.go", caught: ledgerTold,
		old: "return l.appendCommit(b, output, messages, ids) })",
		new: "return l.appendCommit(b, l.output, messages, ids) })",
	},
	{
		name: "what was committed is shown again", file: "receive/ledger.go", caught: ledgerTold,
		old: "sumText(m.Text):\n		return LedgerSeen, nil\n",
		new: "sumText(m.Text):\n		return LedgerNew, nil\n",
	},
	{
		name: "another text under a known id counts as known", file: "receive/ledger.go", caught: ledgerTold,
		old: "	case ok:\n		return LedgerConflict, nil\n",
		new: "	case ok:\n		return LedgerSeen, nil\n",
	},
	{
		name: "the ledger forgets too early", file: "receive/ledger.go",
		caught: suite{pkg: "receive", test: "TestLedgerIsBounded"},
		old:    "	if len(l.ids) < l.cfg.MaxIDs {\n",
		new:    "	if len(l.ids) < l.cfg.MaxIDs/2 {\n",
	},
	{
		name: "the ledger does not know what it has dropped", file: "receive/ledger.go", caught: ledgerBounds,
		old: "	l.dropped = max(l.dropped, oldest.sealed)\n",
		new: "",
	},
	{
		name: "the numbers of a sender's messages are not looked at", file: "receive/ledger.go", caught: ledgerBounds,
		old: "	switch l.replay.Check(m) {\n",
		new: "	switch v := seal.Fresh; v {\n",
	},
	{
		name: "what is in hand is shown a second time", file: "receive/ledger_hand.go",
		caught: suite{pkg: "receive", test: "TestReceiversOfOneLedgerShareWhatIsInHand"},
		old:    "		return LedgerInHand, h\n",
		new:    "		return LedgerNew, h\n",
	},

	// The receiver and its output.
	{
		name: "a wrong key empties a queue", file: "receive/trial.go",
		caught: suite{pkg: "receive", test: "TestAWrongStartEmptiesNoQueue"},
		old:    "	r.trial.on = !r.cfg.DeadLetter && !r.dead\n",
		new:    "	r.trial.on = !r.cfg.DeadLetter && !r.dead && r.cfg.Ledger.empty()\n",
	},
	{
		name: "an authority that knows nobody empties a queue", file: "receive/trial.go",
		caught: suite{pkg: "receive", test: "TestAWrongStartEmptiesNoQueue"},
		old:    "seal.ErrReceiver, seal.ErrUntrusted, ",
		new:    "seal.ErrReceiver, ",
	},
	{
		name: "what waits for a good message is lost with the start", file: "receive/trial.go",
		caught: suite{pkg: "receive", test: "TestAWrongStartEmptiesNoQueue"},
		old:    "	err := r.sub.GiveBack(ctx, r.untaken()...)\n",
		new:    "	err := ctx.Err()\n",
	},
	{
		name: "what cannot be judged now is moved", file: "receive/receiver.go",
		caught: suite{pkg: "receive", test: "TestUndecidedMessagesNeverDie"},
		old:    "	return errors.Is(err, seal.ErrUndecided) || errors.Is(err, seal.ErrFuture)\n",
		new:    "	return errors.Is(err, seal.ErrUndecided)\n",
	},
	{
		name: "the broker is not told what is in hand", file: "receive/receiver.go",
		caught: suite{pkg: "receive", test: "TestReceiverKeepsWhatIsInHand"},
		old:    "			_ = r.sub.Extend(append(r.unsettled(), r.sub.Waiting()...)...)\n",
		new:    "",
	},
	{
		name: "lines are committed before they are synced", file: "cmd/sealmq/internal/receiver/receiver.go",
		caught: suite{pkg: "cmd/sealmq/internal/receiver", test: "TestCommitsWhatIsOnStableStorage"},
		old:    "	if err := r.cfg.File.Commit(); err != nil {\n		return err\n	}\n	return r.commit(",
		new:    "	defer r.cfg.File.Commit()\n	return r.commit(",
	},
	{
		name: "the output is not cut to what the ledger says", file: "cmd/sealmq/internal/jsonl/jsonl.go",
		caught: suite{pkg: "cmd/sealmq/internal/jsonl", test: "TestOpenAtKeepsWhatIsCommitted"},
		old:    "	if err := f.checkCut(total); err != nil {\n		return err\n	}\n	if f.cut = total - f.size; f.cut > 0 {",
		new:    "	if err := f.checkCut(total); err != nil {\n		return err\n	}\n	if f.cut = total - f.size; f.cut < 0 {",
	},

	// What a receiver remembers of a sender's numbers.
	{
		name: "a number that was missing stays missing", file: "receive/replay.go",
		caught: suite{pkg: "receive", test: "TestReplay"},
		old:    "		e.gaps = slices.Replace(e.gaps, i, i+1, rest...)\n",
		new:    "		_ = rest\n",
	},
	{
		name: "numbers that are forgotten count as seen", file: "receive/replay.go", caught: replayForgot,
		old: "		e.forgotten = e.gaps[over-1].to\n",
		new: "",
	},
	{
		name: "an epoch that is forgotten counts as a new one", file: "receive/replay.go", caught: replayForgot,
		old: "	s.floor = max(s.floor, e.created)\n",
		new: "",
	},
	{
		name: "another message with a known number counts as known", file: "receive/replay.go",
		caught: suite{pkg: "receive", test: "TestReplay"},
		old:    "e.marks[i].digest != digest {\n		return Conflict",
		new:    "e.marks[i].digest != digest {\n		return Repeated",
	},
}
