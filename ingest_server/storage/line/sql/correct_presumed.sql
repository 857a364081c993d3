-- What was presumed lost arrived after all: the gap that said so is corrected.
UPDATE iot_service.data_gaps
   SET corrected = corrected + %(found)s,
       seqs = seqs - %(seqs)s::int8multirange
 WHERE gateway_id = %(gateway_id)s AND epoch = %(epoch)s AND reason = 'presumed_lost'
   AND seqs && %(seqs)s::int8multirange
