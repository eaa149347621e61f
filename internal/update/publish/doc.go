// Package publish makes the signed folder of static files that package update
// verifies. It is the publisher's side: nothing of it is on a kiosk.
//
// A repository is a folder:
//
//	metadata/N.root.json       each root there ever was
//	metadata/N.targets.json    what releases there are, and who gets them
//	metadata/N.snapshot.json   which targets file counts
//	metadata/timestamp.json    which snapshot counts; the only file that is replaced
//	targets/SHA256.NAME        programs and patches
//	draft/                     what is being signed; never uploaded
//
// A change of root or targets is a draft that several people sign, each with their
// own key, one after the other or in different places. Publish takes a draft over
// once enough have signed, signs snapshot and timestamp with the online keys, and
// writes nothing that a kiosk would not accept: all of it is verified first, by the
// same code that kiosks verify with.
package publish
