// Package update brings new releases to a kiosk and takes bad ones away again.
//
// # Trust
//
// What is installed is decided by The Update Framework's signed metadata: a root
// of three keys of which two must sign, a targets role of two keys that must both
// sign, and online keys for snapshot and timestamp. Verification is go-tuf's
// (package trustedmetadata). Its downloader and its cache are not used, since they
// are not made for machines that lose power and that nobody visits: Trust and
// source stand in their place. What that covers:
//
//   - a torn or empty cached timestamp, snapshot or targets file is put aside and
//     fetched again, and version floors in a file of their own still refuse what is
//     older than what was seen;
//   - the newest root on disk is the one trusted, never the one that came with the
//     package, and a root older than the newest that was ever seen is refused;
//   - every exchange has a deadline, a size limit and a context, and follows no
//     redirect;
//   - a file is streamed into a .part whose space is taken first, resumed where it
//     broke off, hashed on its way, and takes its place only when whole;
//   - a host that answers something other than 404 for a file that is not there is
//     told by configuration;
//   - expiry is judged by the latest of system clock, build time and newest signed
//     time, so that a clock in 1970 does not switch it off;
//   - SHA-256 is what counts, whatever other digests are listed;
//   - the age of the metadata is shown, and online metadata older than MaxAge is an
//     alarm before it expires;
//   - going back to an older release is new metadata that names it.
//
// Version floors belong to the keys that signed what they came from. When the root
// names other keys for a role, its floors go, which is how a fleet recovers from
// stolen online keys that counted versions up to the end.
//
// # Slots
//
// The package's own program, the factory copy, is never changed by an update.
// Versions lie beside each other, and a symbolic link names the one that runs:
//
//	/usr/lib/gardu/gardu                the factory copy
//	/opt/gardu/versions/<v>/gardu       a version, with release.json beside it
//	/opt/gardu/current -> versions/<v>  replaced by one rename; absent: the factory copy
//	/var/lib/gardu-update/state.json    what is pending, what it replaces, how often it was started
//
// A new version is pending until the agent that runs from it has shown that it
// works (Agent.lacks). Until then BootCount, run by the factory copy before each
// start, counts, and a version that is started too often is replaced by the one
// before. Rollback, run by the factory copy when systemd gives up, does the same at
// once, and goes on to the factory copy and to a page that says OUT OF SERVICE.
// Both keep working when every other file of ours is damaged.
package update
