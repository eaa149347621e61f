package ui

// commonTexts belong to no single screen.
var commonTexts = Texts{
	"do.lang":         {"English", "Bahasa Indonesia"}, // names the language it switches to
	"do.back":         {"Kembali", "Back"},
	"do.stop":         {"Batal", "Stop"},
	"do.edit":         {"Ubah data", "Edit"},
	"do.finish":       {"Selesai", "Finish"},
	"do.receipt":      {"Bukti QR", "QR receipt"},
	"do.stay":         {"Ya, saya masih di sini", "Yes, I am still here"},
	"do.leave":        {"Tidak, akhiri", "No, end it"},
	"do.reload":       {"Pakai layar ini", "Use this screen"},
	"do.contrast":     {"Kontras", "Contrast"},
	"do.reach":        {"Layar rendah", "Easy reach"},
	"do.speech":       {"Suara", "Voice"},
	"speech.on":       {"Suara menyala. Pasang headphone Anda. Tombol F1 mematikan suara.", "Speech is on. Plug in your headphones. The F1 key turns it off."},
	"show.tools":      {"Bahasa dan tampilan", "Language and display"},
	"key.pad.digits":  {"Papan angka", "Number pad"},
	"key.pad.letters": {"Papan huruf", "Letter pad"},
	"key.delete":      {"Hapus", "Delete"},
	"key.clear":       {"Hapus semua", "Clear all"},
	"key.shift":       {"Huruf besar", "Capitals"},
	"key.next":        {"Berikutnya", "Next"},
	"entry.empty":     {"kosong", "empty"},
	"entry.typed":     {"{n} karakter diketik", "{n} characters typed"},
	"entry.digits":    {"{min} sampai {max} angka", "{min} to {max} digits"},
	"entry.exact":     {"{min} angka", "{min} digits"},
	"entry.chars":     {"{min} sampai {max} karakter", "{min} to {max} characters"},
	"show.number":     {"Nomor", "Number"},
	"show.code":       {"Kode", "Code"},
	"show.for":        {"Untuk", "For"},
	"show.steps":      {"Langkah {at} dari {of}", "Step {at} of {of}"},
	"busy":            {"Sebentar…", "One moment…"},

	// How much time is left, for who listens: a countdown is only seen.
	"show.minutes": {"{n} menit", "{n} minutes"},
	"show.minute":  {"{n} menit", "{n} minute"},
	"show.seconds": {"{n} detik", "{n} seconds"},

	"OFFLINE.title": {"Saat ini tidak semua bisa dikirim.", "Not everything can be sent right now."},
	"OFFLINE.works": {"Tetap bisa: {list}.", "Still possible: {list}."},
	"OFFLINE.waits": {"Bisa disimpan dan dikirim nanti: {list}.", "Can be saved and sent later: {list}."},
	"OFFLINE.stops": {"Belum bisa: {list}.", "Not possible now: {list}."},

	"STILL_THERE.title":   {"Anda masih di sini?", "Are you still there?"},
	"STILL_THERE.body":    {"Jika tidak, layar ini dibersihkan sebentar lagi.", "If not, this screen is cleared in a moment."},
	"STILL_THERE.request": {"Permintaan Anda tidak terganggu; hanya layarnya yang dibersihkan.", "Your request continues; only this screen is cleared."},

	"AGENT_LOST.title":   {"Mohon tunggu sebentar", "Please wait a moment"},
	"AGENT_LOST.body":    {"Layar ini sedang menyambung kembali. Yang baru diketik sudah dihapus demi keamanan.", "This screen is reconnecting. What you just typed was erased for your safety."},
	"AGENT_LOST.request": {"Jika permintaan sudah Anda kirim, jangan ulangi: permintaan itu tersimpan dengan aman.", "If you have already sent your request, do not repeat it: it is kept safe."},
	"AGENT_LOST.staff":   {"Ini lebih lama dari biasanya. Silakan minta bantuan petugas.", "This is taking longer than usual. Please ask staff for help."},

	"OTHER_SCREEN.title": {"Layar lain sedang dipakai", "Another screen is in use"},
	"OTHER_SCREEN.body":  {"Layanan ini dibuka di layar lain mesin ini. Hanya satu layar dapat dipakai.", "This service was opened on another screen of this machine. Only one can be used."},

	"refused.bad_args": {"Masukan tidak dapat dibaca. Silakan coba lagi.", "That could not be read. Please try again."},
	"refused.busy":     {"Sebentar, langkah sebelumnya masih berjalan.", "One moment, the last step is still under way."},
}

// operationTexts name the operations.
var operationTexts = Texts{
	"operation.finpay.reset_pin":  {"Atur ulang PIN Finpay", "Reset my Finpay PIN"},
	"operation.finpay.bind":       {"Hubungkan akun Finpay", "Link my Finpay account"},
	"operation.finpay.unbind":     {"Lepaskan akun Finpay", "Unlink my Finpay account"},
	"operation.netzme.forgot_pin": {"Lupa PIN Netzme", "Forgotten Netzme PIN"},
	"operation.prepaid.reset_pin": {"PIN baru kartu prabayar", "New prepaid card PIN"},
}

// fieldTexts name what is entered, say where to find it and what is wrong with it.
var fieldTexts = Texts{
	"field.phoneNo":             {"Nomor ponsel", "Mobile number"},
	"field.phoneNo.hint":        {"Dimulai dengan 08, misalnya 081234567890", "Begins with 08, for example 081234567890"},
	"field.custIdMerchant":      {"ID pelanggan", "Customer ID"},
	"field.custIdMerchant.hint": {"Huruf dan angka, seperti yang tertulis di aplikasi Anda", "Letters and digits, as your app shows it"},
	"field.urn":                 {"Nomor URN", "URN"},
	"field.urn.hint":            {"Tercetak pada amplop atau surat kartu", "Printed on the card's envelope or letter"},
	"field.last4Digits":         {"4 angka terakhir kartu", "Last 4 digits of the card"},
	"field.last4Digits.hint":    {"Di bagian depan kartu", "On the front of the card"},
	"field.customerId":          {"ID pelanggan", "Customer ID"},
	"field.customerId.hint":     {"Huruf dan angka, pada surat kartu", "Letters and digits, on the card's letter"},
	"field.newPIN":              {"PIN baru", "New PIN"},
	"field.otp":                 {"Kode OTP", "OTP code"},
	"field.other":               {"Data", "Details"},

	"rule.missing":       {"Belum diisi.", "This is still empty."},
	"rule.too_short":     {"Terlalu pendek: paling sedikit {min} karakter.", "Too short: at least {min} characters."},
	"rule.too_long":      {"Terlalu panjang: paling banyak {max} karakter.", "Too long: at most {max} characters."},
	"rule.digits_only":   {"Hanya angka.", "Digits only."},
	"rule.prefix":        {"Harus dimulai dengan {prefix}.", "Must begin with {prefix}."},
	"rule.characters":    {"Hanya huruf, angka, titik, - dan _.", "Only letters, digits, full stop, - and _."},
	"rule.unknown_field": {"Data ini tidak diperlukan.", "This is not needed."},
}

// reasonTexts say why a request is where it is, by txn.Reason.
var reasonTexts = Texts{
	"reason.link_down":       {"Sambungan ke penyedia layanan sedang putus.", "The connection to the provider is down."},
	"reason.link_untrusted":  {"Sambungan ke penyedia layanan tidak dapat dipastikan aman, jadi tidak kami pakai.", "The connection to the provider could not be confirmed as safe, so we do not use it."},
	"reason.throttled":       {"Penyedia layanan sedang sibuk dan meminta kami menunggu.", "The provider is busy and asked us to wait."},
	"reason.token_invalid":   {"Kami memperbarui izin masuk ke penyedia layanan.", "We are renewing our access to the provider."},
	"reason.auth_refused":    {"Penyedia layanan belum menerima mesin ini. Petugas sudah diberi tahu.", "The provider does not accept this machine yet. Staff have been told."},
	"reason.clock_corrected": {"Jam mesin ini baru disesuaikan.", "This machine's clock has just been corrected."},
	"reason.keystore":        {"Perangkat keamanan mesin ini sedang tidak menjawab.", "This machine's security device does not answer right now."},
	"reason.provider_held":   {"Pengiriman ke penyedia ini sedang dihentikan oleh petugas.", "Sending to this provider is stopped at the moment."},

	"reason.no_answer":      {"Sambungan terputus sebelum jawaban datang.", "The connection broke before the answer came."},
	"reason.server_error":   {"Penyedia layanan menjawab dengan gangguan.", "The provider answered with a fault."},
	"reason.unreadable":     {"Jawaban penyedia layanan tidak dapat dibaca.", "The provider's answer could not be read."},
	"reason.unlisted":       {"Jawaban penyedia layanan tidak kami kenal.", "The provider's answer is not one we know."},
	"reason.restart":        {"Mesin ini menyala ulang sebelum jawaban datang.", "This machine restarted before the answer came."},
	"reason.duplicate_id":   {"Penyedia layanan sudah pernah menerima permintaan ini.", "The provider has already received this request."},
	"reason.duplicate_ref":  {"Penyedia layanan mengatakan permintaan ini sudah pernah berhasil.", "The provider says that this request already succeeded."},
	"reason.echo_mismatch":  {"Jawaban yang datang bukan untuk permintaan ini.", "The answer that came was not to this request."},
	"reason.in_progress":    {"Penyedia layanan masih mengerjakannya.", "The provider is still working on it."},
	"reason.journal_behind": {"Catatan mesin ini tertinggal; hasilnya sedang diperiksa.", "This machine's record is behind; the result is being checked."},

	"reason.refused":       {"Penyedia layanan menolak permintaan ini.", "The provider refused this request."},
	"reason.bad_field":     {"Penyedia layanan tidak menerima data yang dimasukkan. Periksa kembali dan coba lagi.", "The provider does not accept what was entered. Check it and ask again."},
	"reason.too_many":      {"Sudah terlalu sering diminta. Coba lagi lain waktu.", "This was requested too often. Please try again another time."},
	"reason.not_found":     {"Data ini tidak ditemukan pada penyedia layanan. Periksa kembali nomornya.", "The provider does not know these details. Check the number."},
	"reason.blocked":       {"Kartu atau akun ini sedang diblokir, tidak aktif, atau sudah berakhir. Hubungi penyedia layanan.", "This card or account is blocked, inactive or expired. Contact the provider."},
	"reason.not_allowed":   {"Layanan ini belum dibuka untuk akun Anda.", "This service is not open to your account."},
	"reason.misconfigured": {"Pengaturan cabang ini belum diterima penyedia layanan. Silakan beri tahu petugas.", "The provider does not accept this branch's settings. Please tell staff."},
	"reason.otp_blocked":   {"Kode OTP diblokir karena terlalu sering salah.", "The OTP is blocked after too many wrong codes."},
	"reason.otp_expired":   {"Kode OTP sudah kedaluwarsa.", "The OTP has expired."},
	"reason.otp_wrong":     {"Kode OTP tidak cocok.", "The OTP code was not correct."},
	"reason.already_linked": {"Akun Finpay ini sudah terhubung dengan bank kami sebelumnya.",
		"This Finpay account was already linked to our bank before."},
	"reason.not_linked":    {"Akun Finpay ini tidak sedang terhubung dengan bank kami.", "This Finpay account is not linked to our bank."},
	"reason.bind_again":    {"Finpay meminta akun ini dihubungkan lagi lewat mesin ini sebelum layanan ini dapat dipakai.", "Finpay asks for this account to be linked again at this machine before this service can be used."},
	"reason.not_processed": {"Penyedia layanan memastikan permintaan ini tidak pernah dijalankan.", "The provider confirms that this request never took effect."},

	"reason.otp_wanted":  {"Finpay mengirim kode sekali pakai ke ponsel Anda.", "Finpay sent a one-time code to your phone."},
	"reason.link_open":   {"Halaman di ponsel Anda menunggu.", "The page on your phone is waiting."},
	"reason.code_wanted": {"Akun sudah terhubung. Ketik kode yang tampil di ponsel Anda agar semua layanan dapat dipakai.", "The account is linked. Type the code that your phone shows, so that every service can be used."},

	"reason.waited_too_long": {"Jaringan tidak kembali pada waktunya, jadi permintaan dihapus tanpa dikirim.", "The connection did not come back in time, so the request was dropped unsent."},
	"reason.otp_timeout":     {"Kode OTP tidak dimasukkan pada waktunya.", "The OTP was not entered in time."},
	"reason.link_timeout":    {"Halaman di ponsel tidak diselesaikan pada waktunya, jadi akun tidak terhubung.", "The page on the phone was not finished in time, so the account is not linked."},
	"reason.nothing_changed": {"Langkah pertama terkirim, tetapi langkah itu sendiri tidak mengubah apa pun.", "The first step was sent, but by itself it changes nothing."},
	"reason.secret_lost":     {"Listrik sempat padam, jadi PIN yang tersimpan dimusnahkan demi keamanan dan tidak dikirim.", "The power failed, so the stored PIN was destroyed for safety and never sent."},
	"reason.by_customer":     {"Anda membatalkannya.", "You cancelled it."},
	"reason.by_operator":     {"Petugas membatalkannya.", "Staff cancelled it."},
	"reason.superseded":      {"Permintaan yang lebih baru menggantikannya.", "A newer request took its place."},
	"reason.offline_refused": {"Layanan ini perlu jaringan, dan jaringannya sedang putus.", "This service needs the connection, and the connection is down."},

	"reason.confirmed":   {"Sudah dipastikan pada penyedia layanan.", "Confirmed with the provider."},
	"reason.no_readback": {"Penyedia layanan tidak dapat kami tanyai tentang hasilnya.", "The provider cannot be asked about the result."},

	"reason.disabled":       {"Layanan ini tidak diaktifkan di mesin ini.", "This service is not switched on at this machine."},
	"reason.internal":       {"Ada gangguan pada mesin ini. Permintaan tidak dibuat.", "Something went wrong in this machine. The request was not made."},
	"reason.stopping":       {"Mesin ini sedang dinyalakan ulang. Permintaan tidak dibuat; coba lagi sebentar lagi.", "This machine is restarting. The request was not made; try again in a moment."},
	"reason.card_mismatch":  {"Penerbit kartu tidak mengenali data ini bersama-sama. Periksa kartu dan data Anda, atau minta bantuan petugas.", "The card's issuer does not know these details together. Check your card and details, or ask staff for help."},
	"reason.card_unchecked": {"Penerbit kartu belum menjawab dengan pasti. Coba lagi nanti, atau minta bantuan petugas.", "The card's issuer gave no definite answer. Try again later, or ask staff for help."},
	"reason.staff_refused":  {"Kode petugas tidak diterima.", "The staff code was not accepted."},
	"reason.store_unknown":  {"Catatan mesin ini belum memastikan penyimpanan.", "This machine's record has not confirmed the saving."},
}
