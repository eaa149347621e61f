package ui

import "time"

// entryScreens are the screens before a request exists.
var entryScreens = []Screen{
	{
		// The agent is starting; it knows within seconds whether it can serve.
		State: Boot, Limit: 10 * time.Second, Then: OutOfService, Tone: ToneWorking,
		Texts: Texts{
			"title": {"Sebentar, ya", "One moment"},
			"body":  {"Layar ini sedang disiapkan.", "This screen is getting ready."},
		},
	},
	{
		// Left as soon as the agent is well again; the limit only renews the page.
		State: OutOfService, Limit: 5 * time.Minute, Then: OutOfService, Wipes: true, Tone: ToneHalted,
		Commands: []Command{cmdOperator},
		Texts: Texts{
			"title":                  {"Maaf, layanan ini sedang tidak tersedia", "Sorry, this service is not available right now"},
			"body":                   {"Petugas cabang dapat membantu Anda.", "Branch staff can help you."},
			"note":                   {"Permintaan yang sudah dibuat di sini tetap tersimpan dengan aman.", "Requests already made here are kept safe."},
			"note.journal":           {"Bila Anda sudah membuat permintaan di sini, tunjukkan nomornya kepada petugas.", "If you have already made a request here, show its number to staff."},
			"note.journal_damaged":   {"Bila Anda sudah membuat permintaan di sini, tunjukkan nomornya kepada petugas.", "If you have already made a request here, show its number to staff."},
			"reason.starting":        {"Sistem sedang dinyalakan.", "The system is starting."},
			"reason.token_absent":    {"Perangkat keamanan tidak terpasang atau tidak menjawab.", "The security device is missing or does not answer."},
			"reason.token_locked":    {"Perangkat keamanan terkunci.", "The security device is locked."},
			"reason.keys_missing":    {"Perangkat keamanan belum disiapkan lengkap.", "The security device is not fully set up."},
			"reason.journal":         {"Catatan permintaan tidak dapat dibuka.", "The record of requests cannot be opened."},
			"reason.configuration":   {"Pengaturan mesin ini perlu diperbaiki.", "This machine's settings need to be corrected."},
			"reason.maintenance":     {"Sedang ada pemeliharaan.", "Maintenance is under way."},
			"reason.other":           {"Ada gangguan pada mesin ini.", "Something is wrong with this machine."},
			"reason.no_operations":   {"Belum ada layanan yang diaktifkan di mesin ini.", "No service has been switched on at this machine."},
			"staff":                  {"Untuk petugas", "For staff"},
			"reason.update":          {"Mesin sedang diperbarui.", "The machine is being updated."},
			"reason.clock":           {"Jam mesin ini tidak tepat.", "This machine's clock is wrong."},
			"reason.shutting_down":   {"Mesin sedang dimatikan.", "The machine is shutting down."},
			"reason.token_unusable":  {"Perangkat keamanan tidak dapat dipakai.", "The security device cannot be used."},
			"reason.journal_damaged": {"Catatan permintaan rusak dan perlu diperiksa.", "The record of requests is damaged and needs to be looked at."},
		},
	},
	{
		// Nobody is there; the limit renews the page now and then.
		State: Attract, Limit: 10 * time.Minute, Then: Attract, Wipes: true, Tone: ToneCalm,
		Commands: []Command{cmdStart, cmdOperator},
		Texts: Texts{
			"title":    {"Selamat datang", "Welcome"},
			"body":     {"Atur PIN dan akun Anda sendiri di sini. Perlu beberapa menit saja.", "Manage your PIN and accounts here. It takes only a few minutes."},
			"do.start": {"Sentuh untuk mulai", "Touch to begin"},
		},
	},
	{
		State: Home, Limit: menuLimit, Ask: true, Then: Attract, Wipes: true, Tone: ToneCalm,
		Commands: []Command{cmdChoose, cmdStop},
		Texts: Texts{
			"title": {"Apa yang Anda perlukan?", "What do you need?"},
			"body":  {"Pilih satu layanan.", "Choose one service."},
			"empty": {"Belum ada layanan yang tersedia di mesin ini. Silakan hubungi petugas.", "No service is available at this machine yet. Please ask staff."},
			"waits": {"Disimpan dulu, dikirim nanti", "Saved now, sent later"},
			"stops": {"Sekarang belum bisa", "Not possible now"},
		},
	},
	{
		State: Consent, Limit: menuLimit, Ask: true, Then: Attract, Wipes: true, Tone: ToneCalm,
		Commands: []Command{cmdAgree, cmdBack, cmdStop},
		Texts: Texts{
			"title":                  {"Sebelum mulai", "Before we begin"},
			"body":                   {"Data yang Anda masukkan dikirim ke penyedia layanan untuk keperluan ini saja.", "What you enter goes to the provider for this purpose only."},
			"body.finpay.reset_pin":  {"Kami meminta Finpay mengatur ulang PIN Anda. Finpay mengirim pesan ke ponsel Anda; ikuti petunjuk di pesan itu untuk membuat PIN baru.", "We ask Finpay to reset your PIN. Finpay sends a message to your phone; follow it to make a new PIN."},
			"body.finpay.bind":       {"Anda menghubungkan akun Finpay. Nanti layar menampilkan kode QR: pindai dengan ponsel Anda sendiri dan masukkan PIN Finpay di ponsel itu, bukan di sini.", "You link your Finpay account. This screen will show a QR code: scan it with your own phone and enter your Finpay PIN there, not here."},
			"body.finpay.unbind":     {"Anda melepaskan akun Finpay. Finpay mengirim kode sekali pakai (OTP) ke ponsel Anda, lalu Anda memasukkannya di layar ini.", "You unlink your Finpay account. Finpay sends a one-time code (OTP) to your phone, and you enter it on this screen."},
			"body.netzme.forgot_pin": {"Kami meminta Netzme memberi Anda PIN baru. PIN itu dikirim ke nomor ponsel yang terdaftar di Netzme dan tidak pernah tampil di layar ini.", "We ask Netzme to give you a new PIN. It is sent to the mobile number registered with Netzme and never appears on this screen."},
			"body.prepaid.reset_pin": {"Anda memilih PIN baru untuk kartu prabayar Anda. Siapkan kartu dan tanda pengenal: kami memeriksa keduanya sebelum PIN diganti.", "You choose a new PIN for your prepaid card. Have your card and your identity card ready: both are checked before the PIN is changed."},
			"note":                   {"Data Anda dikirim lewat sambungan aman dan hanya untuk keperluan ini.", "Your data travels over a secure connection, for this purpose only."},
			"note.prepaid.reset_pin": {"Jangan beri tahu PIN kepada siapa pun, termasuk petugas. Tutupi layar saat memasukkannya.", "Tell nobody your PIN, not even staff. Cover the screen while you enter it."},
			"do.agree":               {"Setuju, lanjutkan", "I agree, continue"},
		},
	},
	{
		State: Ident, Limit: entryLimit, Ask: true, Then: Attract, Wipes: true, Tone: ToneCalm,
		Commands: []Command{cmdFields, cmdBack, cmdStop},
		Texts: Texts{
			"title":                   {"Masukkan data Anda", "Enter your details"},
			"title.finpay.reset_pin":  {"Nomor ponsel Finpay Anda", "Your Finpay mobile number"},
			"title.finpay.bind":       {"Nomor ponsel Finpay Anda", "Your Finpay mobile number"},
			"title.finpay.unbind":     {"Nomor ponsel Finpay Anda", "Your Finpay mobile number"},
			"title.netzme.forgot_pin": {"ID pelanggan Netzme Anda", "Your Netzme customer ID"},
			"title.prepaid.reset_pin": {"Data kartu prabayar Anda", "Your prepaid card details"},
			"do.submit_fields":        {"Lanjut", "Continue"},
		},
	},
	{
		State: Verify, Limit: entryLimit, Ask: true, Then: Attract, Wipes: true, Tone: ToneCalm,
		Commands: []Command{cmdStaff, cmdBack, cmdStop},
		Texts: Texts{
			"title":                {"Panggil petugas", "Please call staff"},
			"title.card":           {"Memeriksa kartu Anda", "Checking your card"},
			"body.card":            {"Kami menanyakan kepada penerbit kartu apakah data ini cocok. Ini biasanya selesai dalam beberapa detik.", "We are asking the card's issuer whether these details match. This usually takes a few seconds."},
			"body":                 {"Petugas memeriksa kartu dan tanda pengenal Anda, lalu memasukkan kode petugas di sini.", "Staff check your card and identity card, then enter their staff code here."},
			"label":                {"Kode petugas", "Staff code"},
			"do.staff_code":        {"Kartu dan nasabah cocok", "Card and person match"},
			"notice.staff_refused": {"Kode petugas tidak diterima. Periksa dan coba lagi.", "The staff code was not accepted. Check it and enter it again."},
		},
	},
	{
		State: PIN, Limit: entryLimit, Ask: true, Then: Attract, Wipes: true, Tone: ToneCalm,
		Commands: []Command{cmdPIN, cmdBack, cmdStop},
		Texts: Texts{
			"title":               {"Buat PIN baru", "Choose a new PIN"},
			"body":                {"Tutupi layar dengan tangan Anda. Hindari tanggal lahir dan angka berurutan.", "Cover the screen with your hand. Avoid birthdays and digits in a row."},
			"label":               {"PIN baru", "New PIN"},
			"do.submit_pin":       {"Lanjut", "Continue"},
			"notice.pin_mismatch": {"Kedua PIN tidak sama, jadi keduanya sudah dihapus. Silakan mulai lagi.", "The two PINs do not match, so both were erased. Please start again."},
			"notice.cleared":      {"Demi keamanan, PIN yang sudah diketik telah dihapus. Silakan ketik lagi.", "For your safety the PIN you typed was erased. Please type it again."},
			"notice.pin_refused":  {"PIN ini tidak dapat dipakai. Silakan pilih PIN lain.", "This PIN cannot be used. Please choose another."},
		},
	},
	{
		State: PINAgain, Limit: entryLimit, Ask: true, Then: Attract, Wipes: true, Holds: true, Tone: ToneCalm,
		Commands: []Command{cmdPIN, cmdBack, cmdStop},
		Texts: Texts{
			"title":         {"Ketik PIN baru sekali lagi", "Type the new PIN once more"},
			"body":          {"Supaya kami yakin tidak ada salah ketik.", "This rules out a typing mistake."},
			"label":         {"PIN baru, sekali lagi", "New PIN, once more"},
			"do.submit_pin": {"Lanjut", "Continue"},
		},
	},
	{
		State: Review, Limit: menuLimit, Ask: true, Then: Attract, Wipes: true, Holds: true, Tone: ToneCalm,
		Commands: []Command{cmdConfirm, cmdEdit, cmdStop},
		Texts: Texts{
			"title":                    {"Sudah benar?", "Is this right?"},
			"body":                     {"Periksa sekali lagi. Sesudah dikirim, permintaan tidak dapat ditarik kembali.", "Check once more. Once sent, the request cannot be taken back."},
			"title.finpay.unbind":      {"Yakin ingin melepaskan akun?", "Are you sure you want to unlink?"},
			"body.finpay.unbind":       {"Setelah dilepas, Anda tidak bisa lagi membayar dari akun Finpay ini lewat bank kami. Saldo Anda tetap di Finpay. Untuk memakainya lagi, akun harus dihubungkan kembali.", "Once unlinked, you can no longer pay from this Finpay account through our bank. Your balance stays with Finpay. To use it here again you must link it again."},
			"do.confirm":               {"Ya, kirim", "Yes, send it"},
			"do.confirm.finpay.unbind": {"Ya, lepaskan akun", "Yes, unlink it"},
			"pin":                      {"PIN baru sudah diketik dua kali dan sama", "New PIN typed twice, and they match"},
		},
	},
	{
		State: OfferQueue, Limit: menuLimit, Ask: true, Then: Attract, Wipes: true, Holds: true, Tone: ToneQueued,
		Commands: []Command{cmdHold, cmdDecline},
		Texts: Texts{
			"title":                  {"Jaringan sedang putus. Belum ada yang dikirim.", "The connection is down. Nothing has been sent."},
			"body":                   {"Kami dapat menyimpan permintaan ini dan mengirimnya begitu jaringan kembali, paling lama {minutes} menit lagi. Sesudah itu permintaan dihapus dan tidak dikirim.", "We can save this request and send it as soon as the connection is back, for {minutes} minutes at most. After that it is dropped and never sent."},
			"note":                   {"Anda boleh pergi; Anda mendapat nomor untuk menanyakannya.", "You may leave; you get a number to ask about it."},
			"note.finpay.bind":       {"Mohon tetap di sini: sesudah terkirim, Anda perlu memindai kode QR.", "Please stay here: once it is sent you need to scan a QR code."},
			"note.finpay.unbind":     {"Mohon tetap di sini: sesudah terkirim, Anda perlu memasukkan kode OTP.", "Please stay here: once it is sent you need to enter an OTP code."},
			"note.prepaid.reset_pin": {"PIN Anda disimpan terkunci selama itu, lalu dimusnahkan.", "Until then your PIN is kept locked away, and then destroyed."},
			"do.hold":                {"Ya, simpan dan kirim nanti", "Yes, save it and send it later"},
			"do.decline":             {"Tidak, hapus semuanya", "No, erase everything"},
		},
	},
	{
		// As long as the journal may take to say whether it stored the request.
		State: Submit, Limit: 20 * time.Second, Then: Unsure, Holds: true, Tone: ToneWorking,
		Texts: Texts{
			"title": {"Menyimpan permintaan Anda", "Saving your request"},
			"body":  {"Mohon tunggu. Jangan tinggalkan layar ini.", "Please wait. Do not leave this screen."},
		},
	},
}
